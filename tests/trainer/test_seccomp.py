"""System calls that foreign code may not make, tried by real candidates; and the table of the other machine."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from tests.trainer.kit import found, reporting, script_program, trainer
from trainer.inside import seccomp
from trainer.job import Job
from trainer.sandbox import Bubblewrap, Sandbox

CALL = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "done"
"""
NUMBERS = seccomp.NUMBERS[os.uname().machine]


async def look(tmp_path: Path, sandbox: Sandbox, body: str) -> dict[str, object]:
    """What a candidate in ``sandbox`` finds out."""
    output: list[bytes] = []
    made = trainer(tmp_path, script_program(tmp_path / "program", CALL + reporting(body)), sandbox)
    outcome = await made.run(Job(made.program.asset, 1), on_output=output.append)
    assert outcome.status == "scored", outcome.failure
    return found(b"".join(output))


async def test_calls_that_nothing_honest_makes_are_refused(tmp_path: Path, sandbox: Sandbox) -> None:
    names = seccomp.REFUSED
    calls = {name: NUMBERS[name] for name in names if name in NUMBERS}
    seen = await look(tmp_path, sandbox, f"found.update({{n: call(c, 0, 0, 0, 0, 0, 0) for n, c in {calls}.items()}})")
    assert len(seen) > 70
    assert set(seen.values()) == {"EPERM"}


async def test_no_socket_but_a_pair(tmp_path: Path, sandbox: Sandbox) -> None:
    seen = await look(
        tmp_path,
        sandbox,
        """
made = []
for family in range(64):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW):
        try:
            socket.socket(family, kind).close()
            made.append(family)
        except OSError:
            pass
found["made"] = sorted(set(made))
a, b = socket.socketpair()
a.send(b"x")
found["pair"] = b.recv(1).decode()
""",
    )
    # torch's data loaders need Unix sockets, and in a network name space of its own they lead nowhere
    assert seen == {"made": [int(socket.AF_UNIX)] if isinstance(sandbox, Bubblewrap) else [], "pair": "x"}


async def test_no_new_name_spaces(tmp_path: Path, sandbox: Sandbox) -> None:
    flags = [1 << bit for bit in (17, 25, 26, 27, 28, 29, 30)]
    body = f"found['clone'] = [call({NUMBERS['clone']}, flag | 17, 0, 0, 0, 0) for flag in {flags}]\n"
    body += f"found['clone3'] = call({NUMBERS['clone3']}, 0, 0)"
    seen = await look(tmp_path, sandbox, body)
    assert seen == {"clone": ["EPERM"] * len(flags), "clone3": "ENOSYS"}


async def test_no_file_carries_the_right_of_its_owner(tmp_path: Path, sandbox: Sandbox) -> None:
    seen = await look(
        tmp_path,
        sandbox,
        """
def attempt(name, action):
    try:
        action()
    except OSError:
        pass
    found[name] = os.path.exists(name) and os.stat(name).st_mode & 0o6000
open("a", "w").close()
attempt("a", lambda: os.chmod("a", 0o4755))
attempt("b", lambda: os.close(os.open("b", os.O_CREAT | os.O_WRONLY, 0o4755)))
attempt("c", lambda: os.mkdir("c", 0o6755))
with open("d", "w") as file:
    attempt("d", lambda: os.fchmod(file.fileno(), 0o2755))
""",
    )
    assert set(map(bool, seen.values())) == {False}


async def test_files_of_the_user_keep_their_rights_and_times(tmp_path: Path, sandbox: Sandbox) -> None:
    """Landlock alone does not look at either."""
    mine = tmp_path / "mine"
    mine.write_text("x")
    mine.chmod(0o600)
    os.utime(mine, (1, 1))
    body = f"""
for action in (lambda: os.chmod({str(mine)!r}, 0o777), lambda: os.utime({str(mine)!r}, (9, 9)),
               lambda: os.setxattr({str(mine)!r}, "user.x", b"x")):
    try:
        action()
    except OSError:
        pass
"""
    await look(tmp_path, sandbox, body)
    after = mine.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_mtime, os.listxattr(mine)) == (0o600, 1, [])


async def test_the_node_is_scheduled_as_before(tmp_path: Path, sandbox: Sandbox) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)
    body = f"""
import resource
for action in (lambda: os.setpriority(os.PRIO_PROCESS, {os.getpid()}, 19),
               lambda: os.sched_setaffinity({os.getpid()}, [0]),
               lambda: resource.prlimit({os.getpid()}, resource.RLIMIT_NOFILE)):
    try:
        action()
        found["could"] = True
    except OSError:
        pass
"""
    assert await look(tmp_path, sandbox, body) == {}
    assert (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)) == before


async def test_what_training_needs_goes_on(tmp_path: Path, sandbox: Sandbox) -> None:
    seen = await look(
        tmp_path,
        sandbox,
        """
import multiprocessing, subprocess, threading, mmap, shutil
def child(pipe):
    pipe.send(os.getpid())
ours, theirs = multiprocessing.Pipe()
process = multiprocessing.get_context("fork").Process(target=child, args=(theirs,))
process.start()
found["forked"] = ours.recv() == process.pid
process.join()
thread = threading.Thread(target=lambda: found.update(thread=True))
thread.start()
thread.join()
found["echo"] = subprocess.run(["/bin/echo", "x"], capture_output=True, text=True).stdout
mmap.mmap(-1, 4096).close()
open("a", "w").write("x")
os.chmod("a", 0o755)
shutil.copy2("a", "b")
os.rename("b", "c")
os.nice(1)
os.sched_setaffinity(0, os.sched_getaffinity(0))
""",
    )
    assert seen == {"forked": True, "thread": True, "echo": "x\n"}


@pytest.mark.parametrize("profile", [seccomp.ALONE, seccomp.BESIDE, seccomp.MUTE])
@pytest.mark.parametrize("machine", seccomp.NUMBERS)
def test_every_row_is_decided_on_both_machines(profile: str, machine: str) -> None:
    program, numbers = seccomp.filter_for(profile, machine), seccomp.NUMBERS[machine]
    assert len(program) < 4096
    for name in seccomp.REFUSED:
        if name in numbers:
            assert decide(program, machine, numbers[name]) == refused(errno.EPERM)
    assert decide(program, machine, numbers["clone"], 0x11) == ALLOWED
    assert decide(program, machine, numbers["clone"], 0x10000011) == refused(errno.EPERM)
    assert decide(program, machine, numbers["socket"], 16) == refused(errno.EPERM)
    assert decide(program, machine, numbers["openat"], -100, 0, 0x41, 0o4755) == refused(errno.EPERM)
    assert decide(program, machine, numbers["openat"], -100, 0, 0, 0o4755) == ALLOWED
    assert decide(program, machine, numbers["kill"], 1, 9) == (refused(errno.EPERM) if profile == "mute" else ALLOWED)
    unix = decide(program, machine, numbers["socket"], 1)
    assert unix == (ALLOWED if profile == seccomp.ALONE else refused(errno.EPERM))
    chmod = decide(program, machine, numbers["fchmod"], 3, 0o755)
    assert chmod == (ALLOWED if profile == seccomp.ALONE else refused(0))


def test_calls_of_another_convention_are_refused() -> None:
    program = seccomp.filter_for(seccomp.ALONE, "x86_64")
    assert decide(program, "aarch64", 0) == KILLED
    assert decide(program, "x86_64", 0x40000000) == refused(errno.ENOSYS)


ALLOWED, KILLED = 0x7FFF0000, 0x80000000


def refused(code: int) -> int:
    return 0x00050000 | code


def decide(program: list[seccomp.Instruction], machine: str, number: int, *arguments: int) -> int:
    """What the kernel would answer: its classic BPF, as far as the filter uses it."""
    data = {0: number, 4: seccomp.AUDIT_ARCH[machine]}
    data |= {16 + 8 * index: argument & 0xFFFFFFFF for index, argument in enumerate([*arguments, *[0] * 6][:6])}
    at, held = 0, 0
    while True:
        one = program[at]
        at += 1
        if one.code == 0x06:
            return one.value
        if one.code == 0x20:
            held = data[one.value]
            continue
        holds = {0x15: held == one.value, 0x35: held >= one.value, 0x45: bool(held & one.value)}[one.code]
        at += one.true if holds else one.false
