"""Real nodes survive a partition and the loss of their bootstrap; the whole of it is in tests/chaos/run.py."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.calibrate import slow_numbers
from tests.chaos.network import missing, namespaces
from tests.chaos.run import news
from tests.chaos.swarm import Swarm, swarm, took, union
from tests.e2e.kit import ROOT

pytestmark = pytest.mark.slow

#: Of an experiment: enough of them within the few seconds that the halves are apart.
SECONDS = 2.0
#: More than any took on two busy cores, by some factor.
LIMIT_SECONDS = 60.0


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[Swarm]:
    if why := missing():
        pytest.skip(f"no network namespaces: {why}")
    with swarm(tmp_path) as made:
        made.start(4, slow_numbers(tmp_path / "program", SECONDS))
        yield made


def reached(hive: Swarm, wanted: frozenset[str]) -> bool:
    return took(lambda: hive.hold(wanted) and hive.agree(), LIMIT_SECONDS) is not None


def test_a_partition_parts_and_heals_and_the_bootstrap_may_die(hive: Swarm) -> None:
    one, other = hive.live[:2], hive.live[2:]
    assert took(hive.joined, LIMIT_SECONDS) is not None
    with hive.net.parted([member.host for member in one], [member.host for member in other]):
        assert took(lambda: hive.apart(one, other), LIMIT_SECONDS) is not None
        before = union(one), union(other)  # what was on its way when the network was cut has landed
        assert took(lambda: all(union(half) - old for half, old in zip((one, other), before, strict=True)),
                    LIMIT_SECONDS) is not None  # fmt: skip
        made, crossed = news(one, other, before)
        assert made >= 2
        assert crossed == 0  # so the partition is one
    assert reached(hive, hive.records())
    first = hive.members[0]
    first.kill()
    assert took(lambda: hive.without(first), LIMIT_SECONDS) is not None
    assert took(lambda: all(len(member.peers()) == 2 for member in hive.live), LIMIT_SECONDS) is not None
    held = hive.records()
    assert took(lambda: hive.records() > held, LIMIT_SECONDS) is not None
    assert reached(hive, hive.records())


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(f"no network namespaces: {why}")
    command = [sys.executable, "-m", "tests.chaos.run", "--nodes", "2", "--keep", str(tmp_path / "kept"), "calm"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    journal = tmp_path / "kept" / "node1"
    try:
        assert took(journal.exists, LIMIT_SECONDS) is not None
        running = _processes(process.pid)
        assert running
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=LIMIT_SECONDS)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said.decode()
    assert b"Traceback" not in said
    assert namespaces(f"wg-{process.pid}-") == []
    assert not [number for number in running if Path("/proc", str(number)).exists()]


def _processes(parent: int) -> list[int]:
    """The nodes that it started."""
    found = Path("/proc", str(parent), "task").glob("*/children")
    return [int(number) for one in found for number in one.read_text().split()]
