"""What a sandboxed child does to itself before any foreign code runs: its own file systems, limits, user,
capabilities, Landlock.

Only the standard library, by ctypes; this module is imported before numpy, because Landlock binds the calling
thread and what it starts later, not threads that are there already.

https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import errno
import os
import platform
import resource
import signal
from collections.abc import Mapping, Sequence
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
#: More than any kernel has; the first that it does not know ends the loop.
_MAX_CAPABILITY = 64
_CAPABILITY_VERSION_3 = 0x20080522
#: Go through folders that are closed to others, and read there what Landlock allows.
CAP_DAC_READ_SEARCH = 2
_CLONE_NEWNS = 0x20000
_MS_NOSUID_NODEV = 0b110
_MS_REC_PRIVATE = 0x4000 | 1 << 18

# the same numbers on every architecture that has Landlock
_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

# access rights to files, as <linux/landlock.h> numbers them
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV
#: ABI -> all rights to files that it knows
_ALL_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_NET_BIND_AND_CONNECT = 0b11
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
#: TCP rules came with ABI 4; without them a candidate could talk to anyone.
_ABI_WITH_TCP, ABI_WITH_SCOPES = 4, 6


class ConfineError(OSError):
    """The kernel did not let us confine ourselves; nothing foreign has run."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


_libc = ctypes.CDLL(None, use_errno=True)


def own_file_systems(mounts: Sequence[tuple[str, int, int]], uid: int | None) -> None:
    """Over each path an empty one in memory, of so many bytes and so many files, which is ``uid``'s.

    Only the kernel's own count stops a flood of files: each takes a kilobyte of its memory, however small.
    """
    if _libc.unshare(_CLONE_NEWNS) != 0:
        raise ConfineError(ctypes.get_errno(), "unshare")
    if _libc.mount(None, b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None) != 0:  # or the outside would see them
        raise ConfineError(ctypes.get_errno(), "mount --make-rprivate /")
    owner = "" if uid is None else f",uid={uid},gid={uid}"
    for path, size, files in mounts:
        options = f"size={size},nr_inodes={files},mode=700{owner}".encode()
        if _libc.mount(b"tmpfs", path.encode(), b"tmpfs", ctypes.c_ulong(_MS_NOSUID_NODEV), options) != 0:
            code = ctypes.get_errno()
            raise ConfineError(code, f"mount {path}: {os.strerror(code)}")


def set_limits(memory: int, file_bytes: int, open_files: int, processes: int) -> None:
    """Bounds that the kernel holds for this process and each that it starts, in bytes; 0 is no bound.

    ``processes`` (and threads) counts all of the same user.
    """
    for limit, wanted in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_DATA, memory or resource.getrlimit(resource.RLIMIT_DATA)[1]),
        (resource.RLIMIT_NPROC, processes or resource.getrlimit(resource.RLIMIT_NPROC)[1]),
    ):
        hard = resource.getrlimit(limit)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(limit, (value, value))


def die_with_parent() -> None:
    """SIGKILL for us when the thread that started us ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Processes below us whose parent has ended become our children, not init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def drop_privileges(uid: int | None, keep: int | None = None) -> None:
    """Become ``uid`` for good, with no capability but ``keep``; none can be gained by executing a file."""
    for capability in range(_MAX_CAPABILITY):
        if capability != keep and _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # none that we may drop, or none that the kernel knows
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if uid is not None:
        _prctl(_PR_SET_KEEPCAPS, int(keep is not None))
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    kept = 0 if keep is None else 1 << keep
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # effective, permitted, inheritable: those numbered below 32, then those above
    _syscall("capset", _SYS_CAPSET[platform.machine()], header, (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0))
    if keep is not None and _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, keep, 0, 0) != 0:
        raise ConfineError(ctypes.get_errno(), "prctl: ambient capability")


def landlock_abi() -> int:
    """The kernel's Landlock version, 0 where it has none."""
    version: int = _libc.syscall(_SYS_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)
    return max(version, 0)


def landlock(rules: Mapping[str, Sequence[str]]) -> None:
    """Close everything but ``rules``: paths under "read", "write" (folders) and "device".

    Raises ConfineError where the kernel can't.
    """
    abi = landlock_abi()
    if abi < _ABI_WITH_TCP:
        raise ConfineError(
            errno.ENOSYS, f"Landlock ABI {abi}; ABI {_ABI_WITH_TCP} is the first that stops TCP"
        )
    known = max(version for version in _ALL_RIGHTS if version <= abi)
    rights = _ALL_RIGHTS[known]
    scoped = _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if abi >= ABI_WITH_SCOPES else 0
    attributes = _Ruleset(rights, _NET_BIND_AND_CONNECT, scoped)
    size = ctypes.c_size_t(ctypes.sizeof(attributes) if abi >= ABI_WITH_SCOPES else 16)
    ruleset = _syscall("landlock_create_ruleset", _SYS_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    for kind, allowed in (("read", _READ), ("write", rights & ~_IOCTL_DEV), ("device", _DEVICE)):
        for path in rules[kind]:
            _allow(ruleset, path, allowed & rights)
    _syscall("landlock_restrict_self", _SYS_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # not on this machine
    try:
        if not os.path.isdir(path):
            rights &= _FILE_RIGHTS
        rule = _PathBeneath(rights, fd)
        _syscall("landlock_add_rule", _SYS_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(fd)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise ConfineError(ctypes.get_errno(), f"prctl {option}")


def _syscall(name: str, number: int, *arguments: Any) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise ConfineError(code, f"{name}: {os.strerror(code)}")
    return result
