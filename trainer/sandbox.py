"""Where foreign code runs. Backends are *tried* before they are believed: ``strongest`` runs a real child in
each that attempts what must not succeed.

What each stops (+), and what it does NOT stop (-):

    bubblewrap  + files other than its workspace, system, Python and what is named; the network; other
                  processes; the node's environment and descriptors; new name spaces; being left behind
                - system calls: the kernel's whole surface is there (no seccomp filter yet), AF_VSOCK too
                - files without end in the workspace, in number and in sum; processes and threads up to the
                  user's limit (none for root); files that it leaves are those of the node's user
    Landlock    + reading and writing files as above; TCP; from ABI 6 signals and abstract sockets outside
                - UDP, TCP by sendto(MSG_FASTOPEN), MPTCP, listening without bind, sockets in the file system
                - stat, chmod, chown, utime and xattr of every file that its user owns; priorities and limits
                  of the user's other processes; names in /proc. For a root node that user is root, without
                  capabilities
                - all that bubblewrap does not stop
    none        + only being left behind at the end, and the limits that the kernel holds for one process
                - everything else; it is used when ``--unsafe-no-sandbox`` was given, and never otherwise

Memory, time and log are bounded by the trainer from outside in all of them, by looking every 50 ms: what
happens between two looks is only bounded by RLIMIT_DATA. GPU memory is not bounded, and a GPU's driver is
exposed.
"""

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from protocol.errors import UserError
from trainer.spawn import Cell, Child, Plan, python_folders, spawn

#: Python, msgpack and numpy on a cold disk; a sandbox that needs longer is of no use.
PROBE_SECONDS = 60.0
#: What a probe prints is a short list.
_PROBE_OUTPUT = 64 * 1024
_TMP_BYTES = 64 << 20
#: --as-pid-1: else bwrap's own process is visible inside as process 1.
_BWRAP_ISOLATION = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"),
    "--as-pid-1",
    *("--uid", "1000", "--gid", "1000", "--cap-drop", "ALL", "--hostname", "sandbox"),
    *("--proc", "/proc", "--dev", "/dev"),
)
_SHM_BYTES = 128 << 20
_SYSTEM_LINKS = ("/bin", "/sbin", "/lib", "/lib64", "/lib32")
#: Folders and files of the system that Python, numpy and torch read.
_SYSTEM = ("/usr", "/etc/ld.so.cache", "/nix/store", "/gnu/store")
_PROC_FILES = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self", "/proc/sys/vm/overcommit_memory")
_CPU_TOPOLOGY = ("/sys/devices/system/cpu", "/sys/devices/system/node")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_CUDA_DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
_MAX_GPUS = 16


class Sandbox(Protocol):
    """A backend. ``safe`` is whether a peer's code may run in it."""

    name: str
    safe: bool

    def plan(self, cell: Cell) -> Plan: ...

    def spawn(self, cell: Cell) -> AbstractAsyncContextManager[Child]:
        """Start a child; its tree is killed on leaving."""


class _Backend:
    def plan(self, cell: Cell) -> Plan:
        raise NotImplementedError

    def spawn(self, cell: Cell) -> AbstractAsyncContextManager[Child]:
        return spawn(self.plan(cell), cell)


class Bubblewrap(_Backend):
    """Name spaces by bwrap: what is not bound is not there."""

    name = "bubblewrap"
    safe = True

    def __init__(self, executable: str | None = None) -> None:
        self.executable = executable or shutil.which("bwrap") or ""
        if not self.executable:
            raise UserError("bwrap is not installed (Debian and Ubuntu: apt install bubblewrap)")

    def plan(self, cell: Cell) -> Plan:
        arguments = [
            *_BWRAP_ISOLATION,
            *("--size", str(_SHM_BYTES), "--tmpfs", "/dev/shm", "--size", str(_TMP_BYTES), "--tmpfs", "/tmp"),
            *_system_binds(),
            *(part for path in _CPU_TOPOLOGY for part in ("--ro-bind-try", path, path)),
            *(part for path in _accelerators(cell.device) for part in ("--dev-bind-try", path, path)),
            *(part for path in [*python_folders(), *cell.readable] for part in _bind("--ro-bind", path)),
            *_bind("--bind", cell.workspace),
            *("--chdir", str(cell.workspace), "--remount-ro", "/dev", "--remount-ro", "/", "--"),
        ]
        return Plan([self.executable, *arguments], leash=False, drop=False, landlock=None)


class Landlock(_Backend):
    """Access rules of the kernel for an ordinary process: for containers, where name spaces are closed."""

    name = "landlock"
    safe = True

    def plan(self, cell: Cell) -> Plan:
        read = [*_SYSTEM, *_SYSTEM_LINKS, *_PROC_FILES, *_CPU_TOPOLOGY]
        read += [str(path) for path in (*python_folders(), *cell.readable)]
        device = [*_DEVICES, *_accelerators(cell.device)]
        rules = {"read": read, "write": [str(cell.workspace)], "device": device}
        return Plan((), leash=True, drop=True, landlock=rules)


class Unsafe(_Backend):
    """No sandbox. Only for code that one would run by hand, and only where the user asked for it."""

    name = "none"
    safe = False

    def plan(self, cell: Cell) -> Plan:
        return Plan((), leash=True, drop=False, landlock=None)


@dataclass(frozen=True)
class Tried:
    """Which sandbox held, and for each stronger one why it did not; ``sandbox`` None where nothing holds."""

    sandbox: Sandbox | None
    reasons: Sequence[str]


BACKENDS: Sequence[Callable[[], Sandbox]] = (Bubblewrap, Landlock)


async def strongest(scratch: Path, backends: Sequence[Callable[[], Sandbox]] = BACKENDS) -> Tried:
    """The first backend that holds when it is really tried, with workspaces below ``scratch``."""
    reasons: list[str] = []
    for backend in backends:
        try:
            sandbox = backend()
            wrong = await probe(sandbox, scratch)
        except (UserError, OSError) as error:
            reasons.append(f"{getattr(backend, 'name', backend)}: {error}")
            continue
        if not wrong:
            return Tried(sandbox, reasons)
        reasons.append(f"{sandbox.name}: {wrong}")
    return Tried(None, reasons)


async def probe(sandbox: Sandbox, scratch: Path) -> str:
    """Run a child that tries to break out; what it managed to do, or "" where the sandbox holds."""
    with _playground(scratch) as cell:
        output = b""
        with trio.move_on_after(PROBE_SECONDS) as limit:
            async with sandbox.spawn(cell) as child:
                async for part in child.output:
                    output = (output + part)[-_PROBE_OUTPUT:]
                await child.wait()
        if limit.cancelled_caught:
            return f"no answer within {PROBE_SECONDS:.0f} s"
        return _verdict(output)


@contextmanager
def _playground(scratch: Path) -> Iterator[Cell]:
    """A probe's cell, with a home that it must not see and a listener that it must not reach."""
    scratch.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="probe-", dir=scratch) as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        home, workspace, readable = (Path(folder, name) for name in ("home", "workspace", "readable"))
        home.mkdir()
        workspace.mkdir()
        for path in (home / "canary", readable):
            path.write_text("canary")
        config = {
            "canary": str(home / "canary"),
            "outside": str(home / "written"),
            "workspace": str(workspace),
            "readable": str(readable),
            "port": listener.getsockname()[1],
            "pid": os.getpid(),
        }
        yield Cell("probe", config, workspace, [readable])


def _verdict(output: bytes) -> str:
    """The probe's own list, or what was printed instead."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    try:
        wrong = json.loads(lines[-1])
        assert isinstance(wrong, list)
    except (IndexError, ValueError, AssertionError):
        return f"did not start: {lines[-1][:300] if lines else 'no output'}"
    return "; ".join(map(str, wrong))


def _system_binds() -> list[str]:
    """The system, read only, with its links as they are on this machine."""
    binds = [part for path in _SYSTEM for part in ("--ro-bind-try", path, path)]
    for path in _SYSTEM_LINKS:
        if os.path.islink(path):
            binds += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            binds += ["--ro-bind", path, path]
    return binds


def _bind(option: str, path: Path) -> list[str]:
    return [option, str(path), str(path)]


def _accelerators(device: str) -> list[str]:
    if device != "cuda":
        return []
    return [*_CUDA_DEVICES, *(f"/dev/nvidia{number}" for number in range(_MAX_GPUS))]
