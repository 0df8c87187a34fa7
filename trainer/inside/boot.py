"""The first thing that runs in a sandboxed child: ``python -I -B boot.py CONFIG``, CONFIG being JSON.

    path      sys.path: the standard library's and the environment's folders
    role      candidate, examiner or probe: which module's ``main`` gets ``config``
    mounts    file systems of our own, for confine.own_file_systems; needs CAP_SYS_ADMIN
    limits    for confine.set_limits
    landlock  rules for confine.landlock, or null
    drop      arguments for confine.drop_privileges, or null to keep what we have
    seccomp   profile for seccomp.install, or null
    leash     whether to stay behind as the supervisor: standard input is then a pipe whose other end the
              trainer holds, and at its end everything below us is killed

Our own code up to the line that imports the role; nothing foreign runs before the limits hold.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import select
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).resolve().parent
#: Between two looks at who is still alive: short against the 5 s that the trainer waits for us.
_KILL_EVERY = 0.005
#: The trainer hands over a few sockets, and their numbers are low.
_MAX_FD = 65536


def main() -> int:
    config: dict[str, Any] = json.loads(sys.argv[1])
    sys.path[:] = config["path"]
    _package()
    confine = importlib.import_module("inside.confine")
    if config["leash"]:
        _supervise(confine)
    if config["mounts"]:
        confine.own_file_systems(config["mounts"], config["drop"]["uid"])
    confine.set_limits(**config["limits"])
    if config["drop"]:
        confine.drop_privileges(**config["drop"])
        confine.die_with_parent()  # forgotten by the kernel where the user changes
    if config["mounts"]:
        os.chdir(os.environ["HOME"])  # which is one of them, and its owner's alone
    if config["landlock"]:
        confine.landlock(config["landlock"])
    if config["seccomp"]:
        importlib.import_module("inside.seccomp").install(_profile(config["seccomp"], confine))
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        stream.reconfigure(line_buffering=True)  # it is shown as it comes, and is there when we are killed
    role = importlib.import_module("inside." + config["role"])
    status: int = role.main(config["config"])
    return status


def _profile(wanted: str, confine: ModuleType) -> str:
    """Where Landlock can't keep signals from the node, none are sent at all."""
    unscoped = wanted == "beside" and confine.landlock_abi() < confine.ABI_WITH_SCOPES
    return "mute" if unscoped else wanted


def _package() -> None:
    """Make the folder of this file the package ``inside``, wherever it stands."""
    spec = importlib.util.spec_from_file_location(
        "inside", _HERE / "__init__.py", submodule_search_locations=[str(_HERE)]
    )
    assert spec is not None
    sys.modules["inside"] = importlib.util.module_from_spec(spec)


def _supervise(confine: ModuleType) -> None:
    """Fork; the child returns, and this process stays to kill what the child leaves behind."""
    confine.adopt_orphans()
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        confine.die_with_parent()
        if os.getppid() != supervisor:
            os._exit(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        return
    os.closerange(3, _MAX_FD)  # or the other side would never see the candidate hang up
    os._exit(_watch(child))


def _watch(child: int) -> int:
    """Wait for the child or the end of the leash, then kill all that is left; the child's exit status."""
    ended = os.pidfd_open(child)
    select.select([0, ended], [], [])
    status: int | None = None
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _below(os.getpid()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    if pid != child or not _has_ended(ended):
                        os.kill(pid, signal.SIGKILL)
            pid, code = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                status = code
            elif pid == 0:
                select.select([], [], [], _KILL_EVERY)
    return 1 if status is None else _exit_status(status)


def _has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])


def _exit_status(status: int) -> int:
    """As a shell says it: 128 and the signal for one that was killed."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _below(root: int) -> list[int]:
    """Every process that descends from ``root``."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/stat", "rb") as file:
                    after_name = file.read().rpartition(b")")[2].split()
                parents.setdefault(int(after_name[1]), []).append(int(entry))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


if __name__ == "__main__":
    sys.exit(main())
