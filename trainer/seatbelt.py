"""The sandbox of macOS: a profile for ``sandbox-exec``. WRITTEN WITHOUT A MAC AT HAND AND NOT TESTED: like every
backend it is tried before it is believed (probe.py), and a node uses it only where that succeeds.

    sandbox-exec  + files other than the system, Python, the workspace and what is named; the network; Unix sockets;
                    signals to others; starting other processes, so that none is left behind
                  - names and sizes of files; files without end between two looks of the trainer; system calls that
                    the profile does not know of; a GPU's driver

Apple calls the command deprecated and documents no language; the operations are those of the profiles in
/System/Library/Sandbox/Profiles.
"""

import json
import shutil
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from protocol.errors import UserError
from trainer.spawn import Cell, Child, Plan, python_command, python_folders, spawn

#: What Python, numpy and torch read of the system.
_SYSTEM = ("/usr/lib", "/usr/share", "/System", "/Library/Apple", "/private/var/db/dyld", "/private/var/db/timezone")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
#: What Metal asks of the driver and of the shader compiler.
_METAL = """
(allow iokit-open (iokit-user-client-class "AGXDeviceUserClient" "IOGPUDeviceUserClient" "IOSurfaceRootUserClient"))
(allow mach-lookup (global-name "com.apple.MTLCompilerService"))
"""


class Seatbelt:
    """``sandbox-exec`` with a profile that denies what it does not name. Raises UserError where there is none."""

    name = "sandbox-exec"
    safe = True

    def __init__(self) -> None:
        self.executable = shutil.which("sandbox-exec") or ""
        if not self.executable:
            raise UserError("sandbox-exec is not there: it comes with macOS")

    def plan(self, cell: Cell) -> Plan:
        return Plan([self.executable, "-p", profile(cell)], leash=False, drop=False, landlock=None, seccomp=None)

    def spawn(self, cell: Cell) -> AbstractAsyncContextManager[Child]:
        return spawn(self.plan(cell), cell)


def profile(cell: Cell) -> str:
    """The rules for one child. It may not fork: no process of it can outlive it."""
    readable = [*_SYSTEM, *map(str, python_folders()), *map(str, cell.readable), str(cell.workspace)]
    python = python_command()[0]
    return f"""(version 1)
(deny default)
(allow process-exec (literal {_quoted(python)}))
(allow process-info* (target self))
(allow signal (target self))
(allow sysctl-read)
(allow file-read-metadata)
(allow file-read* (literal "/") (literal {_quoted(python)}) {_paths("literal", _DEVICES)} {_paths("subpath", readable)})
(allow file-write* (subpath {_quoted(str(cell.workspace))}))
(allow file-write-data (literal "/dev/null"))
(allow ipc-posix-sem)
{_METAL if cell.device == "mps" else ""}"""


def _paths(kind: str, paths: Iterable[str]) -> str:
    return " ".join(f"({kind} {_quoted(path)})" for path in paths)


def _quoted(path: str) -> str:
    """A string of the profile's language, which is a Scheme."""
    return json.dumps(path, ensure_ascii=False)
