"""One child process in a sandbox: started with what its cell names alone, killed with all that it started."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from trainer import tree

INSIDE = Path(__file__).resolve().parent / "inside"
#: A tree of some hundred processes is gone within milliseconds; a machine under load gets the rest.
KILL_SECONDS = 5.0
_LOOK_EVERY = 0.005
#: A checkpoint of the largest model that trains in five minutes on a GPU, several times over.
WORKSPACE_BYTES = 1 << 30
#: A compiler's cache is some thousand files.
WORKSPACE_FILES = 16384
OPEN_FILES = 1024
#: Compilers and data loaders start one for each core, some tens at most.
PROCESSES = 128
#: What the kernel stops at, threads included, where it can; between the supervisor's two looks.
KERNEL_PROCESSES = 4 * PROCESSES
#: Foreign code finds these and nothing of ours.
BASE_ENV: Mapping[str, str] = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True)
class Cell:
    """What one child gets.

    role       module of trainer/inside whose ``main`` runs, and ``config``, its argument
    workspace  the one folder that it may write to, its current directory and HOME
    readable   files and folders that it may read, besides the system's and Python's
    fds        descriptors that it inherits, under the same numbers
    memory     bytes of data that a process of it may have; 0 is no limit (CUDA reserves more than it uses)
    cpu        the one CPU that it may run on, by number; None is any
    """

    role: str
    config: Mapping[str, Any]
    workspace: Path
    readable: Sequence[Path] = ()
    fds: Sequence[int] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    memory: int = 0
    device: str = "cpu"
    cpu: int | None = None


@dataclass(frozen=True)
class Plan:
    """How a backend runs a cell: what stands before Python's command line, and what boot.py is told.

    uid     the user that the child becomes, None to stay who we are; its workspace is given to it
    keep    the one capability that it keeps
    nproc   whether processes can be counted by user: it has none outside
    """

    prefix: Sequence[str]
    leash: bool
    drop: bool
    landlock: Mapping[str, Sequence[str]] | None
    seccomp: str | None
    mounts: Sequence[tuple[str, int, int]] = ()
    uid: int | None = None
    keep: int | None = None
    nproc: bool = False


class Child:
    """A running child. ``output`` is its standard output and error, together."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        self._process = process
        self._ended = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
        self.output = trio.lowlevel.FdStream(os.dup(process.stdout.fileno()))
        process.stdout.close()
        self.tree = tree.Tree(process.pid)

    @property
    def pid(self) -> int:
        """Of the tree's root, which may be the sandbox's own process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    async def wait(self) -> int:
        """The exit status; 128 and the signal for one that was killed."""
        while (code := self._process.poll()) is None:
            if self._ended is None:
                await trio.sleep(_LOOK_EVERY)
            else:
                await trio.lowlevel.wait_readable(self._ended)
        return code if code >= 0 else 128 - code

    async def kill(self) -> None:
        """Kill the whole tree and wait, for a bounded time, until all of it is gone."""
        with trio.CancelScope(shield=True):
            members = self.tree.members()
            if self._process.stdin is not None:
                self._process.stdin.close()  # the leash: the supervisor kills what is below it
                with trio.move_on_after(KILL_SECONDS):
                    await self.wait()
            if self._process.poll() is None:
                self._process.kill()
            for member in members:
                member.kill()
            with trio.move_on_after(KILL_SECONDS):
                await self.wait()
                while any(member.alive() for member in members):  # noqa: ASYNC110  /proc has no events
                    await trio.sleep(_LOOK_EVERY)

    async def aclose(self) -> None:
        await self.kill()
        if self._ended is not None:
            os.close(self._ended)
        with trio.CancelScope(shield=True):
            await self.output.aclose()


@asynccontextmanager
async def spawn(plan: Plan, cell: Cell) -> AsyncIterator[Child]:
    """Start the child; on leaving, however that happens, its tree is killed. Raises OSError.

    It is started from this thread and not, as trio would, from a worker: bwrap's child asks to be killed when
    the *thread* that started it ends, and a worker that is idle ends after ten seconds.
    """
    if plan.uid is not None:
        os.chown(cell.workspace, plan.uid, plan.uid)
    with _running_on(cell.cpu):
        process = subprocess.Popen(  # noqa: ASYNC220  a few milliseconds, and see above
            [*plan.prefix, *python_command(), json.dumps(_boot_config(plan, cell))],
            stdin=subprocess.PIPE if plan.leash else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**BASE_ENV, **cell.env, "HOME": str(cell.workspace), "TMPDIR": str(cell.workspace)},
            cwd=cell.workspace,
            pass_fds=tuple(cell.fds),
            close_fds=True,
            start_new_session=True,
        )
    child = Child(process)
    try:
        yield child
    finally:
        await child.aclose()


@contextmanager
def _running_on(cpu: int | None) -> Iterator[None]:
    """What is started meanwhile runs on one CPU, and so does all that it starts."""
    if cpu is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def python_command() -> list[str]:
    """The interpreter itself, not the environment's link to it: links may lead through closed folders."""
    base = getattr(sys, "_base_executable", None) or sys.executable
    return [os.path.realpath(base), "-I", "-B", str(INSIDE / "boot.py")]


def python_folders() -> list[Path]:
    """What a child must read to run Python with the environment's packages."""
    folders = {Path(os.path.realpath(sys.base_prefix)), INSIDE, *map(Path, _packages())}
    folders |= {Path(folder).resolve() for folder in folders}
    return sorted(folder for folder in folders if not folder.is_relative_to("/usr"))


def _packages() -> list[str]:
    """The environment's site-packages."""
    paths = sysconfig.get_paths()
    return sorted({paths["purelib"], paths["platlib"]})


def _path() -> list[str]:
    """sys.path for a child: the standard library, then the environment's packages; nothing of the user's."""
    base = os.path.realpath(sys.base_prefix)
    standard = [entry for entry in sys.path if os.path.realpath(entry).startswith(base + os.sep)]
    installed = _packages()
    return (
        [entry for entry in standard if "-packages" not in entry]
        + installed
        + [entry for entry in standard if "-packages" in entry and entry not in installed]
    )


def _boot_config(plan: Plan, cell: Cell) -> dict[str, Any]:
    return {
        "path": _path(),
        "role": cell.role,
        "limits": {
            "memory": cell.memory,
            "file_bytes": WORKSPACE_BYTES,
            "open_files": OPEN_FILES,
            "processes": KERNEL_PROCESSES if plan.nproc else 0,
        },
        "mounts": plan.mounts,
        "landlock": plan.landlock,
        "drop": {"uid": plan.uid, "keep": plan.keep} if plan.drop else None,
        "seccomp": plan.seccomp,
        "leash": plan.leash,
        "config": dict(cell.config),
    }


def killed_by(status: int) -> str:
    """ "killed by SIGSEGV" or "exit status 3"."""
    if status > 128 and status - 128 in signal.valid_signals():
        return f"killed by {signal.Signals(status - 128).name}"
    return f"exit status {status}"
