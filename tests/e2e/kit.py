"""Real ``waggle`` processes for tests, each in a home of its own, ended by their number whatever happens."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import until

ROOT = Path(__file__).parents[2]
#: A node is there within some two seconds, on a machine busy with other tests later.
START_SECONDS = 60.0
#: Ending is bounded by node/main.py; this is more.
END_SECONDS = 30.0
#: It answers within milliseconds; a disk that others keep busy may hold up the thread that does.
ASK_SECONDS = 30.0

Json = dict[str, Any]


@dataclass
class Place:
    """Where a test's nodes live: homes below ``folder``, one cache."""

    folder: Path
    nodes: "list[Running]" = field(default_factory=list)
    #: of the environment, besides what every command needs
    variables: dict[str, str] = field(default_factory=dict)

    def waggle(
        self, *arguments: str, stdin: str = "", seconds: float = START_SECONDS
    ) -> "subprocess.CompletedProcess[str]":
        """A command, run to its end."""
        return subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, input=stdin, timeout=seconds,
            env=self.environment(), cwd=self.folder,
        )  # fmt: skip

    def start(
        self, name: str, *arguments: str, command: str = "start", script: Path | None = None, listen: bool = True
    ) -> "Running":
        """A node of home ``name``; without ``listen`` it is not told where."""
        home = self.folder / name
        where = ("--listen", "/ip4/127.0.0.1/tcp/0") if listen else ()
        program = COMMAND if script is None else [sys.executable, str(script)]
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [*program, command, *arguments, *where, "--home", str(home), "--http", "127.0.0.1:0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(), cwd=self.folder,
            )  # fmt: skip
        node = Running(self, home, process, self.folder / f"{name}.log")
        self.nodes.append(node)
        return node

    def environment(self) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**kept, "WAGGLE_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error",
                **self.variables}  # fmt: skip


@dataclass
class Running:
    """A node's process."""

    place: Place
    home: Path
    process: "subprocess.Popen[bytes]"
    log: Path

    async def up(self) -> "Running":
        """Wait until it serves."""
        await until(lambda: self.announced() is not None or self.process.poll() is not None, START_SECONDS)
        assert self.process.poll() is None, self.log.read_text()
        return self

    def announced(self) -> Json | None:
        with suppress(FileNotFoundError, ValueError):
            said: Json = json.loads((self.home / "node.json").read_text())
            return said if said["pid"] == self.process.pid else None
        return None

    def said(self, key: str) -> Any:
        announced = self.announced()
        assert announced is not None, self.log.read_text()
        return announced[key]

    @property
    def address(self) -> str:
        address = self.said("addresses")[0]
        assert isinstance(address, str)
        return address

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.said("http") + path, timeout=ASK_SECONDS) as answer:
            data = answer.read()
        assert isinstance(data, bytes)
        return data

    def status(self) -> Json:
        found: Json = json.loads(self.get("/api/status"))
        return found

    def ledger(self) -> list[Json]:
        """All experiments that its home holds, latest first."""
        done = self.place.waggle("log", "--all", "--json", "--home", str(self.home))
        assert done.returncode == 0, done.stderr
        rows: list[Json] = json.loads(done.stdout)
        return rows

    async def until(self, condition: Callable[[Json], bool], seconds: float = 120.0) -> Json:
        """Its status, as soon as ``condition`` holds for it."""
        found: list[Json] = []

        def holds() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            found[:] = [self.status()]
            return condition(found[0])

        try:
            await until(holds, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{found}\n{self.log.read_text()[-6000:]}") from None
        return found[0]

    def stop(self) -> int:
        """As Ctrl-C does; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(END_SECONDS)

    def kill(self) -> None:
        """As a power cut does."""
        self.process.kill()
        self.process.wait(END_SECONDS)

    def best_in_git(self) -> str:
        """The commit of branch best in its lineage."""
        command = ["git", "-C", str(self.home / "lineage"), "rev-parse", "best"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def leaves_nothing(self) -> bool:
        """Whether no process still has its home on its command line."""
        return not any(re.search(re.escape(str(self.home)), line) for line in _command_lines(self.process.pid))


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    made = Place(folder)
    try:
        yield made
    finally:
        for node in made.nodes:
            if node.process.poll() is None:
                node.kill()


def resting(status: Json) -> bool:
    """Whether a node of one lane has been told to pause and has come to rest: nothing is under way in it."""
    return status["paused"] and not status["current"] and "paused" in status["idle"]


def _command_lines(but: int) -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in (but, os.getpid()):
            with suppress(OSError):
                yield (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")


COMMAND = [sys.executable, "-m", "node.cli"]
