"""Which system calls foreign code may make: a filter in the kernel, which holds until the process has ended.

A classic BPF program, made here from a table: everything is allowed that is not named. Name spaces and Landlock
decide which *files* and *processes* there are; this takes away what neither of them knows: sockets, memory that no
limit counts, files that would carry rights, and those parts of the kernel that have been holes most often.

https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable
from typing import NamedTuple

#: Behind name spaces of its own: no process but its own can be named, Unix sockets lead nowhere.
ALONE = "alone"
#: Beside the node's other processes: what could touch them is refused too, and no socket can be made.
BESIDE = "beside"
#: As BESIDE, on kernels whose Landlock does not scope signals: none can be sent.
MUTE = "mute"

#: name, then its number on x86_64 and on aarch64; "-" where there is none
_TABLE = """
ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, process_madvise 440 440,
process_mrelease 448 448, pidfd_getfd 438 438, kcmp 312 272, migrate_pages 256 238, move_pages 279 239,
memfd_create 319 279, memfd_secret 447 447, shmget 29 194, shmat 30 196, shmctl 31 195, semget 64 190, semop 65 193,
semtimedop 220 192, semctl 66 191, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187, mq_open 240 180,
mq_unlink 241 181, io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427, bpf 321 280,
perf_event_open 298 241, userfaultfd 323 282, keyctl 250 219, add_key 248 217, request_key 249 218, mknod 133 -,
mknodat 259 33, unshare 272 97, setns 308 268, mount 165 40, umount2 166 39, move_mount 429 429, open_tree 428 428,
open_tree_attr 467 467, fsopen 430 430, fsmount 432 432, fsconfig 431 431, fspick 433 433, mount_setattr 442 442,
pivot_root 155 41, chroot 161 51, open_by_handle_at 304 265, fanotify_init 300 262, inotify_init 253 -,
inotify_init1 294 26, swapon 167 224, swapoff 168 225, reboot 169 142, kexec_load 246 104, kexec_file_load 320 294,
init_module 175 105, finit_module 313 273, delete_module 176 106, quotactl 179 60, quotactl_fd 443 443, acct 163 89,
syslog 103 116, settimeofday 164 170, clock_settime 227 112, clock_adjtime 305 266, adjtimex 159 171,
sethostname 170 161, setdomainname 171 162, vhangup 153 58, nfsservctl 180 42, lookup_dcookie 212 18, iopl 172 -,
ioperm 173 -, modify_ldt 154 -, uselib 134 -, file_setattr 469 469,
clone 56 220, clone3 435 435, openat2 437 437, socket 41 198, socketpair 53 199, open 2 -, openat 257 56, creat 85 -,
personality 135 92, prlimit64 302 261, setpriority 141 140, ioprio_set 251 30, sched_setaffinity 203 122,
sched_setparam 142 118, sched_setscheduler 144 119, sched_setattr 314 274,
chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, chown 92 -, lchown 94 -, fchown 93 55, fchownat 260 54,
utime 132 -, utimes 235 -, utimensat 280 88, futimesat 261 -, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7,
setxattrat 463 463, removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16, removexattrat 466 466,
kill 62 129, tkill 200 130, tgkill 234 131, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240,
pidfd_send_signal 424 424
"""
_ROWS = [row.split() for row in _TABLE.replace("\n", " ").split(",")]
_MACHINES = ("x86_64", "aarch64")
#: machine -> name -> number
NUMBERS = {
    machine: {row[0]: int(row[column]) for row in _ROWS if row[column] != "-"}
    for column, machine in enumerate(_MACHINES, 1)
}


def _names(first: str, last: str) -> list[str]:
    """A section of the table."""
    names = [row[0] for row in _ROWS]
    return names[names.index(first) : names.index(last) + 1]


AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
#: Set in the number of a call by the x32 convention, which would slip past a table of the usual numbers.
_X32_BIT = 0x40000000

#: What is done to files' owners, rights, times and labels. Landlock does not look at it, so that it would reach
#: every file of the user; and because pip, torch and shutil do it to their own files, it is not refused but does
#: nothing.
_ABOUT_FILES = _names("chmod", "removexattrat")
_SIGNALS = _names("kill", "pidfd_send_signal")
REFUSED = _names("ptrace", "file_setattr")

_AF_UNIX = 1
_PRIO_PROCESS = 0
_QUERY_PERSONALITY = 0xFFFFFFFF
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
_NEW_NAMESPACE = 0x7E020000
_SET_ID_BITS = 0o6000
#: O_CREAT and O_TMPFILE: without them the mode is not looked at, and may be anything.
_MAKES_A_FILE = 0x400040

# classic BPF, <linux/bpf_common.h> and <linux/seccomp.h>
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_AT_NUMBER, _AT_ARCH, _AT_ARGUMENTS = 0, 4, 16
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2


class Instruction(NamedTuple):
    """One of BPF's: ``struct sock_filter``; the jumps are relative, for true and for false."""

    code: int
    true: int
    false: int
    value: int


Block = list[Instruction]


def filter_for(profile: str, machine: str) -> Block:
    """The whole program. Raises KeyError for a machine whose calls we have no numbers of."""
    numbers = NUMBERS[machine]
    program = [
        _load(_AT_ARCH),
        Instruction(_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        _answer(_KILL_PROCESS),
        _load(_AT_NUMBER),
        Instruction(_AT_LEAST, 0, 1, _X32_BIT),
        _refuse(errno.ENOSYS),
    ]
    for name, block in _rules(profile):
        if name in numbers:
            program += [Instruction(_EQUAL, 0, len(block), numbers[name]), *block]
    return [*program, _answer(_ALLOW)]


def install(profile: str) -> None:
    """Filter all calls of this thread and what it starts, for good. Raises OSError where the kernel can't."""
    machine = platform.machine()
    if machine not in NUMBERS:
        raise OSError(errno.ENOSYS, f"no system call filter for {machine}")
    program = filter_for(profile, machine)
    packed = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    header = struct.pack("@HP", len(program), ctypes.addressof(packed))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_SECCOMP, _MODE_FILTER, header)):
        rest = [ctypes.c_ulong(0)] * (5 - len(arguments))
        if libc.prctl(*(_wide(argument) for argument in arguments), *rest) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"system call filter: {errno.errorcode.get(code, code)}")


def _wide(argument: int | bytes) -> object:
    return ctypes.c_ulong(argument) if isinstance(argument, int) else argument


def _rules(profile: str) -> Iterable[tuple[str, Block]]:
    """Calls and what is done about each; a block ends in an answer whatever it finds."""
    for name in REFUSED:
        yield name, [_refuse()]
    yield "clone3", [_refuse(errno.ENOSYS)]  # its flags are behind a pointer; libc then takes clone
    yield "openat2", [_refuse(errno.ENOSYS)]
    yield "clone", _unless_bits(0, _NEW_NAMESPACE)
    yield "personality", _only(0, 0, _QUERY_PERSONALITY)
    yield "socketpair", _only(0, _AF_UNIX)
    for name, flags, mode in (("open", 1, 2), ("openat", 2, 3)):
        making = Instruction(_ANY_BIT, 1, 0, _MAKES_A_FILE)
        yield name, [_argument(flags), making, _answer(_ALLOW), *_unless_bits(mode, _SET_ID_BITS)]
    yield "creat", _unless_bits(1, _SET_ID_BITS)
    yield from (_alone if profile == ALONE else _beside)()
    if profile == MUTE:
        for name in _SIGNALS:
            yield name, [_refuse()]


def _alone() -> Iterable[tuple[str, Block]]:
    yield "socket", _only(0, _AF_UNIX)
    for name, mode in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2)):
        yield name, _unless_bits(mode, _SET_ID_BITS)


def _beside() -> Iterable[tuple[str, Block]]:
    yield "socket", [_refuse()]
    for name in _ABOUT_FILES:
        yield name, [_refuse(0)]
    for name in ("prlimit64", "sched_setaffinity", "sched_setparam", "sched_setscheduler", "sched_setattr"):
        yield name, _only(0, 0)  # 0 is who calls
    yield "setpriority", [*_demand(0, _PRIO_PROCESS), *_only(1, 0)]
    yield "ioprio_set", _only(1, 0)


# blocks


def _only(argument: int, *values: int) -> Block:
    """Allowed where the lower half of the argument is one of ``values``, which is all that these calls look at."""
    tests = [Instruction(_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [_argument(argument), *tests, _refuse(), _answer(_ALLOW)]


def _demand(argument: int, value: int) -> Block:
    """Refused where it is anything else, else the next instruction."""
    return [_argument(argument), Instruction(_EQUAL, 1, 0, value), _refuse()]


def _unless_bits(argument: int, bits: int) -> Block:
    return [_argument(argument), Instruction(_ANY_BIT, 0, 1, bits), _refuse(), _answer(_ALLOW)]


def _argument(index: int) -> Instruction:
    return _load(_AT_ARGUMENTS + 8 * index)  # both machines store the lower half first


def _load(offset: int) -> Instruction:
    return Instruction(_LOAD, 0, 0, offset)


def _answer(value: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, value)


def _refuse(code: int = errno.EPERM) -> Instruction:
    return _answer(_ERRNO | code)
