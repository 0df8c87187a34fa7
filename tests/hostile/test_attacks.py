"""Hostile candidates, each through the real trainer in each sandbox; the judge looks from outside.

What an attack is to end in is its own affair, but for those that go for a limit: they end in a named status, by
the limit that they went for, and soon after it.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from protocol.statements import Status
from tests.hostile.judge import Scene
from tests.trainer.kit import CAPS, script_program, trainer
from tests.trainer.nobody import nobodys_folder, run_as_nobody
from trainer.job import Job, Outcome
from trainer.sandbox import Sandbox, Unsafe

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent / "attacks"
ATTACKS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in ("attacks", "control"))
#: Wall seconds for one CPU second of budget: who sleeps is ended then.
WALL = 4.0
#: A limit holds at once, what ran is gone within a second; the rest is for a machine that is busy with other tests.
SOON = 8.0
#: Bytes, as the program grants them; what is taken between two looks comes on top.
MEMORY, SLACK = 1 << 30, 1.5
#: How those end that go for a limit: status, words of the reason, and seconds after their beginning, of which the
#: limit has some where it is one of time.
LIMITS = {
    "past_the_limit": (Status.TIMED_OUT, "wall seconds", WALL),
    "stop_itself": (Status.TIMED_OUT, "wall seconds", WALL),
    "burn_in_children": (None, "seconds", WALL),
    "fork_bomb": (None, "", WALL),
    "thread_bomb": (None, "", WALL),
    "take_memory": (Status.CRASHED, "emory", WALL),
    "take_memory_together": (Status.CRASHED, "MiB of memory", WALL),
    "take_shared_memory": (None, "", WALL),
    "fill_the_disk": (None, "", WALL),
    "fill_unseen": (None, "", WALL),
    "flood_of_files": (None, "", WALL),
    "flood_the_log": (None, "", WALL),
}
#: Seconds of budget, where one is too short to get to the limit.
BUDGETS = {"take_memory": 5.0}
#: Those that only touch what the test itself has put there: without a sandbox they succeed, and the judge sees it.
HARMLESS = {
    "read_files": "a secret was told",
    "read_environment": "a secret was told",
    "take_descriptors": "a secret was told",
    "signal_others": "the victim has changed",
    "slow_others": "the victim has changed",
    "connect_tcp": "a server was reached: tcp",
    "send_udp": "a server was reached: udp",
    "unix_path": "a server was reached: unix",
    "unix_abstract": "a server was reached: abstract",
    "every_family": "sockets",
    "listen": "sockets",
    "new_namespaces": "a user name space",
    "carry_rights": "owner's rights",
}


class Attack:
    """One attack on one scene; ``began`` and ``seconds`` by the clock of the test."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene, self.folder = scene, folder
        self.output = b""
        self.began: float | None = None

    async def run(self, name: str, sandbox: Sandbox, seconds: float = 1) -> Outcome:
        source = self.folder / f"program-{name}"
        hidden = {f"data/{split}/text.txt": self.scene.secret for split in ("validation", "holdout")}
        paths = [source / path for path in hidden]
        program = script_program(
            source,
            (FOLDER / f"{name}.py").read_text(),
            files={
                **hidden,
                "data/train/text.txt": "to be learnt" * 1000,
                "attacks.py": (FOLDER / "attacks.py").read_text(),
                "targets.json": json.dumps(self.scene.targets(paths)),
            },
            clock='"cpu"',
            seconds=str(seconds),
        )
        made = trainer(self.folder, program, sandbox, replace(CAPS, wall=WALL))
        outcome = await made.run(Job(program.asset, 1), on_output=self._take)
        self.seconds = trio.current_time() - (self.began or trio.current_time())
        self.output += outcome.failure.encode()
        return outcome

    def breaches(self) -> list[str]:
        return self.scene.breaches(self.output)

    def _take(self, part: bytes) -> None:
        self.output += part
        if self.began is None:
            self.began = trio.current_time()


@pytest.fixture
def attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    scene = Scene(tmp_path)
    monkeypatch.setenv("WAGGLE_TEST_KEY", scene.secret)
    try:
        yield Attack(scene, tmp_path)
    finally:
        scene.close()


async def test_control(attack: Attack, sandbox: Sandbox) -> None:
    outcome = await attack.run("control", sandbox)
    assert outcome.status is Status.SCORED, outcome.failure
    assert b"a child" in attack.output
    assert attack.breaches() == []
    assert attack.scene.peaks.processes >= 1, "the judge saw no process"
    assert attack.scene.peaks.sockets >= 1, "the judge saw no socket"


#: An attack that stumbles over itself proves nothing.
BUGS = ("SyntaxError", "NameError", "ImportError", "ModuleNotFound", "AttributeError", "TypeError", "KeyError")


@pytest.mark.parametrize("name", ATTACKS)
async def test_attack(attack: Attack, sandbox: Sandbox, name: str) -> None:
    outcome = await attack.run(name, sandbox, BUDGETS.get(name, 1.0))
    assert attack.breaches() == [], outcome.failure
    if name != "fork_bomb":  # whose processes share what they have
        assert attack.scene.peaks.memory < SLACK * MEMORY
    assert not outcome.failure.rpartition("\n  ")[2].lstrip().startswith(BUGS), outcome.failure
    if name in LIMITS:
        status, words, seconds = LIMITS[name]
        assert attack.began is not None
        assert attack.seconds < seconds + SOON
        assert status in (None, outcome.status), outcome.failure
        assert words in outcome.failure


async def test_nothing_is_left_for_the_next_run(attack: Attack, sandbox: Sandbox) -> None:
    for _ in range(2):
        await attack.run("leave_state", sandbox)
        assert b"found" not in attack.output
    assert attack.breaches() == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fill_the_disk", "wrote more than the 1024 MiB"),
        ("fill_unseen", "wrote more than the 1024 MiB"),
        ("flood_of_files", "made more than the 16384 files"),
        ("deep_folders", "cannot be looked into: File name too long"),
    ],
)
async def test_looking_is_enough_where_the_kernel_does_not_count(attack: Attack, name: str, words: str) -> None:
    outcome = await attack.run(name, Unsafe(), seconds=20)
    assert outcome.status is Status.CRASHED
    assert words in outcome.failure
    ended = time.monotonic()
    assert attack.breaches() == [], "as much again as is granted, at most"
    full = attack.scene.peaks.full  # a fast machine ends it before the judge has looked
    assert full is None or ended - full < 1 + SOON


@pytest.mark.parametrize("name", HARMLESS)
async def test_the_judge_sees(attack: Attack, name: str) -> None:
    """Without a sandbox the same attacks come through."""
    await attack.run(name, Unsafe())
    assert [line for line in attack.breaches() if HARMLESS[name] in line]


def test_as_an_ordinary_user(tmp_path: Path, sandbox: Sandbox) -> None:
    """All of the above once more, by a node that is not root's."""
    with nobodys_folder() as folder:
        command = [
            *(sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(folder / "base")),
            *("-k", f"{sandbox.name} and not ordinary and not next_run", "tests/hostile/test_attacks.py"),
        ]
        done = run_as_nobody(command, tmp_path / "keep", 280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert f"{len(ATTACKS) + 1} passed" in done.stdout.splitlines()[-1], done.stdout[-1000:]
