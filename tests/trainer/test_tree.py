"""What a tree of processes uses, as /proc and as ps tell it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.waiting import until
from trainer import tree
from trainer.tree import Member, Proc, Ps, Tree

#: A parent with a child that computes and has memory, until standard input ends.
FAMILY = """
import os, sys, time
if os.fork() == 0:
    held = b"x" * (64 << 20)
    while time.process_time() < 1.2:
        pass
    os.write(1, b"done")
    time.sleep(60)
sys.stdin.read()
os.kill(0, 9)
"""
SOURCES = [pytest.param(Ps, id="ps")]
if os.path.exists("/proc/self/stat"):
    SOURCES.append(pytest.param(Proc, id="proc"))


@pytest.fixture
def family() -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        yield process
        process.communicate()


@pytest.mark.parametrize("source", SOURCES)
async def test_a_child_counts_with_its_parent(
    family: "subprocess.Popen[bytes]", source: type[Ps] | type[Proc], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "PS_SECONDS", 0.0)
    assert family.stdout is not None
    assert family.stdout.read(4) == b"done"
    found = Tree(family.pid)
    found._processes = source()
    usage = found.measure()
    assert usage.processes == 2
    assert usage.cpu >= 1.0
    assert usage.memory > 64 << 20
    assert family.pid in {member.pid for member in found.members()}


@pytest.mark.parametrize("source", SOURCES)
def test_a_process_is_told_by_number_and_start(source: type[Ps] | type[Proc]) -> None:
    own = source().stat(os.getpid())
    assert own is not None
    assert own.parent == os.getppid()
    assert not own.ended
    assert source().stat(2**22 + 1) is None


async def test_who_has_ended_uses_nothing_more(family: "subprocess.Popen[bytes]") -> None:
    members = Tree(family.pid).members()
    family.kill()
    await until(lambda: not any(member.alive() for member in members if member.pid == family.pid))
    for member in members:
        member.kill()
    await until(lambda: not any(member.alive() for member in members))


def test_a_later_process_with_the_same_number_is_another() -> None:
    assert not Member(os.getpid(), started=1).alive()


@pytest.mark.parametrize(
    ("told", "seconds"), [("0:00.05", 0.05), ("00:01:02", 62.0), ("1-00:00:03", 86403.0), ("12:34.50", 754.5)]
)
def test_times_as_different_systems_write_them(told: str, seconds: float) -> None:
    assert tree._seconds(told) == pytest.approx(seconds)


def test_ps_is_not_asked_at_every_look() -> None:
    source, begun = Ps(), time.monotonic()
    source.below(os.getpid())
    at = source._at
    source.below(os.getpid())
    assert at > begun
    assert source._at == at
