"""Nodes behind NATs, each behind its own: they dial out only, and take full part."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.calibrate import slow_numbers
from tests.chaos.network import Host, inside, missing
from tests.chaos.swarm import swarm, took

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 2.0
LIMIT_SECONDS = 60.0
REACH = "import socket, sys; socket.create_connection((sys.argv[1], 4001), 3)"


def reaches(one: Host, address: str) -> bool:
    with inside(one.namespace):
        return subprocess.run([sys.executable, "-c", REACH, address], capture_output=True).returncode == 0


def test_nodes_behind_nats_share_one_ledger_through_a_public_one(tmp_path: Path) -> None:
    if why := missing():
        pytest.skip(f"no network namespaces: {why}")
    with swarm(tmp_path) as hive:
        hive.start_at([hive.net.host()], slow_numbers(tmp_path / "program", SECONDS))
        public = hive.members[0]
        hive.start_at([hive.net.behind_nat() for _ in range(2)], tmp_path / "program")
        homes = hive.members[1:]
        for at, home in enumerate(homes):
            other = homes[1 - at].host
            assert reaches(home.host, public.host.address)
            assert not reaches(home.host, f"10.77.0.{other.number}"), "a NAT lets nobody in"
        assert took(lambda: {member.peer_id for member in homes} <= public.peers(), LIMIT_SECONDS) is not None
        assert took(lambda: len(hive.records()) >= 9, LIMIT_SECONDS) is not None
        wanted = hive.records()
        assert took(lambda: hive.hold(wanted), 3 * LIMIT_SECONDS) is not None
        assert all(member.peers() == {public.peer_id} for member in homes)
