"""Nodes behind NATs, each behind its own: they take full part, and find a way to each other that needs nobody then."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench.calibrate import slow_numbers
from tests.chaos.network import Host, inside, missing
from tests.chaos.swarm import Swarm, swarm, took

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 2.0
LIMIT_SECONDS = 60.0
#: From a home to the next exchange. Where NATs reset what they do not know, two packets must meet under way.
DELAY_SECONDS = 0.01
REACH = "import socket, sys; socket.create_connection((sys.argv[1], 4001), 3)"


def reaches(one: Host, address: str) -> bool:
    with inside(one.namespace):
        return subprocess.run([sys.executable, "-c", REACH, address], capture_output=True).returncode == 0


def goes_on(hive: Swarm) -> None:
    """What the nodes find from now on, all of them hold."""
    before = len(hive.records())
    assert took(lambda: len(hive.records()) >= before + 6, LIMIT_SECONDS) is not None
    wanted = hive.records()
    assert took(lambda: hive.hold(wanted), 3 * LIMIT_SECONDS) is not None


@pytest.mark.parametrize("resets", [False, True], ids=["dropping", "resetting"])
def test_nodes_behind_nats_find_a_way_to_each_other_that_outlives_the_public_one(tmp_path: Path, resets: bool) -> None:
    if why := missing():
        pytest.skip(f"no network namespaces: {why}")
    with swarm(tmp_path) as hive, ExitStack() as delays:
        hive.start_at([hive.net.host()], slow_numbers(tmp_path / "program", SECONDS))
        public = hive.members[0]
        hive.start_at([hive.net.behind_nat(resets=resets) for _ in range(2)], tmp_path / "program")
        homes = hive.members[1:]
        if resets:
            delays.enter_context(hive.net.delayed(hive.net.hosts[1:], DELAY_SECONDS))
        for at, home in enumerate(homes):
            other = homes[1 - at].host
            assert reaches(home.host, public.host.address)
            assert not reaches(home.host, f"10.77.0.{other.number}"), "a NAT lets nobody in"
        assert took(lambda: {member.peer_id for member in homes} <= public.peers(), LIMIT_SECONDS) is not None
        goes_on(hive)
        found = took(hive.joined, 2 * LIMIT_SECONDS)
        assert found is not None
        print(f"a way was found after {found:.1f} s")
        public.kill()
        assert took(lambda: all(public.peer_id not in home.peers() for home in homes), LIMIT_SECONDS) is not None
        goes_on(hive)
        assert hive.joined()
