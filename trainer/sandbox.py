"""Where foreign code runs. Backends are *tried* before they are believed, see probe.py.

What each stops (+), and what it does NOT stop (-):

    bubblewrap  + files other than its workspace, system, Python and what is named; the network; other
                  processes; the node's environment and descriptors; new name spaces; being left behind
                + system calls that nothing honest makes (inside/seccomp.py); sockets but AF_UNIX ones, which
                  lead nowhere
                + more in the workspace than WORKSPACE_BYTES and WORKSPACE_FILES: the kernel counts, in memory
                + more than KERNEL_PROCESSES processes and threads, where the child has a user of its own
                - what the filter leaves of the kernel
    Landlock    + reading and writing files as above; TCP; from ABI 6 signals and abstract sockets outside
                + system calls as above, and what Landlock does not look at: sockets of every family, owners,
                  rights and times of files, priorities of other processes
                + more in the workspace than the same limits, by the kernel where the node may mount, else by the
                  trainer, which looks: what is written between two looks comes on top
                - processes and threads up to the user's limit where the node is no root, between two looks
                - stat of every file; names in /proc where its folder may be listed
    sandbox-exec  on macOS, not tested: see seatbelt.py
    none        + only being left behind at the end, and the limits that the kernel holds for one process
                - everything else; it is used when ``--unsafe-no-sandbox`` was given, and never otherwise

Where the node is root, the child is a user without files and processes. Memory, time, log and the number of
processes are bounded by the trainer from outside in all of them, by looking every 50 ms: what happens between two
looks is only bounded by RLIMIT_DATA. GPU memory is not bounded, and a GPU's driver is exposed.
"""

import itertools
import os
import random
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from protocol.errors import UserError
from trainer.inside import seccomp
from trainer.inside.confine import CAP_DAC_READ_SEARCH
from trainer.seatbelt import Seatbelt
from trainer.spawn import WORKSPACE_BYTES, WORKSPACE_FILES, Cell, Child, Plan, python_folders, spawn

#: --as-pid-1: else bwrap's own process is visible inside as process 1. CAP_SYS_ADMIN is for boot.py, which
#: mounts the workspace and gives it up.
_BWRAP_ISOLATION = (
    *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--die-with-parent", "--new-session", "--as-pid-1"),
    *("--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--hostname", "sandbox"),
    *("--proc", "/proc", "--dev", "/dev"),
)
#: An ordinary user becomes root of a name space of its own ...
_AS_USER = ("--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000")
#: ... and root becomes nobody: a user without processes or files.
_AS_ROOT = ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
_SHM_BYTES = 128 << 20
#: Files in shared memory; a workspace has more of them.
_SHM_FILES = 1024
_SYSTEM_LINKS = ("/bin", "/sbin", "/lib", "/lib64", "/lib32")
#: Folders and files of the system that Python, numpy and torch read.
_SYSTEM = ("/usr", "/etc/ld.so.cache", "/nix/store", "/gnu/store")
_PROC_FILES = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self", "/proc/sys/vm/overcommit_memory")
_CPU_TOPOLOGY = ("/sys/devices/system/cpu", "/sys/devices/system/node")
#: Between the ranges that systemd and distributions hand out: https://systemd.io/UIDS-GIDS/ says "unused".
_FIRST_SPARE_UID, _SPARE_UIDS = 60706, 478
#: Nodes of one machine begin anywhere, so that two of them hardly meet.
_UIDS = itertools.count(random.SystemRandom().randrange(_SPARE_UIDS))
_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN = 6, 7, 21
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
        uid = spare_uid() if all(map(_open_to_others, cell.readable)) else None
        folders = [*python_folders(), *cell.readable]
        arguments = [
            *_BWRAP_ISOLATION,
            *(_AS_USER if uid is None else _AS_ROOT),
            *("--tmpfs", "/dev/shm", "--tmpfs", "/tmp"),
            *_system_binds(),
            *(part for path in _CPU_TOPOLOGY for part in ("--ro-bind-try", path, path)),
            *(part for path in _accelerators(cell.device) for part in ("--dev-bind-try", path, path)),
            *_parents([*folders, cell.workspace]),
            *(part for path in folders for part in _bind("--ro-bind", path)),
            *_bind("--bind", cell.workspace),
            *("--chdir", str(cell.workspace)),
            *("--remount-ro", "/tmp", "--remount-ro", "/dev", "--remount-ro", "/", "--"),
        ]
        mounts = [
            (str(cell.workspace), WORKSPACE_BYTES, WORKSPACE_FILES),
            ("/dev/shm", _SHM_BYTES, _SHM_FILES),
        ]
        prefix = [self.executable, *arguments]
        return Plan(prefix, False, True, None, seccomp.ALONE, mounts=mounts, uid=uid, nproc=True)


class Landlock(_Backend):
    """Access rules of the kernel for an ordinary process: for containers, where name spaces are closed."""

    name = "landlock"
    safe = True

    def plan(self, cell: Cell) -> Plan:
        read = [*_SYSTEM, *_SYSTEM_LINKS, *_PROC_FILES, *_CPU_TOPOLOGY]
        read += [str(path) for path in (*python_folders(), *cell.readable)]
        device = [*_DEVICES, *_accelerators(cell.device)]
        rules = {"read": read, "write": [str(cell.workspace)], "device": device}
        uid, keep = spare_uid(), None
        if uid is not None and not all(map(_reachable, [*python_folders(), *cell.readable, cell.workspace])):
            if _has_capability(CAP_DAC_READ_SEARCH):
                keep = CAP_DAC_READ_SEARCH
            else:
                uid = None
        mounts = [(str(cell.workspace), WORKSPACE_BYTES, WORKSPACE_FILES)] if _has_capability(_CAP_SYS_ADMIN) else []
        return Plan((), True, True, rules, seccomp.BESIDE, mounts=mounts, uid=uid, keep=keep, nproc=uid is not None)


def spare_uid() -> int | None:
    """A user for one child of a node that is root's: one that has no files, no processes and no name.

    None where we are someone else, or may not become another.
    """
    if os.geteuid() != 0 or not (_has_capability(_CAP_SETUID) and _has_capability(_CAP_SETGID)):
        return None
    return _FIRST_SPARE_UID + next(_UIDS) % _SPARE_UIDS


def _has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    (effective,) = re.findall(r"(?m)^CapEff:\s*([0-9a-f]+)", status)
    return bool(int(effective, 16) >> number & 1)


def _open_to_others(path: Path) -> bool:
    """Whether another user may read it, and what is in it, judged by its first level."""
    inside = [path, *(path.iterdir() if path.is_dir() else ())]
    return all(one.stat().st_mode & 0o4 for one in inside)


def _reachable(path: Path) -> bool:
    """Whether another user gets there and may read it."""
    return all(above.stat().st_mode & 0o1 for above in path.resolve().parents) and _open_to_others(path)


class Unsafe(_Backend):
    """No sandbox. Only for code that one would run by hand, and only where the user asked for it."""

    name = "none"
    safe = False

    def plan(self, cell: Cell) -> Plan:
        return Plan((), leash=True, drop=False, landlock=None, seccomp=None)


def _system_binds() -> list[str]:
    """The system, read only, with its links as they are on this machine."""
    binds = [part for path in _SYSTEM for part in ("--ro-bind-try", path, path)]
    for path in _SYSTEM_LINKS:
        if os.path.islink(path):
            binds += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            binds += ["--ro-bind", path, path]
    return binds


def _parents(paths: Sequence[Path]) -> list[str]:
    """The folders above, open to all: bwrap makes them for itself alone, who is another user than the child."""
    above = {parent for path in paths for parent in path.parents if parent != Path("/")}
    wanted = sorted(one for one in above if not one.is_relative_to("/usr"))
    return [part for parent in wanted for part in ("--perms", "0755", "--dir", str(parent))]


def _bind(option: str, path: Path) -> list[str]:
    return [option, str(path), str(path)]


def _accelerators(device: str) -> list[str]:
    if device != "cuda":
        return []
    return [*_CUDA_DEVICES, *(f"/dev/nvidia{number}" for number in range(_MAX_GPUS))]


#: The strongest first.
BACKENDS: Sequence[Callable[[], Sandbox]] = (Seatbelt,) if sys.platform == "darwin" else (Bubblewrap, Landlock)
