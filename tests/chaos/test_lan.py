"""Nodes on one local network find each other by multicast, and hear nothing of other swarms."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from gossip.book import AddressBook
from gossip.lan import find_neighbours
from gossip.transport import ConnectError
from tests.chaos.network import Host, inside, missing, network
from tests.chaos.swarm import swarm, took
from tests.gossip.members import identity

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 30.0
LOOK = """
import sys, trio
from gossip.lan import find_neighbours
async def main():
    await find_neighbours(bytes([int(sys.argv[1])]) * 32, sys.argv[2:], lambda address: print(address, flush=True))
trio.run(main)
"""


def look(host: Host, swarm: int, number: int) -> "subprocess.Popen[str]":
    """A process on a host that looks around, and prints what it hears."""
    address = f"/ip4/{host.address}/tcp/4001/p2p/{identity(number).peer_id}"
    command = [sys.executable, "-W", "error", "-c", LOOK, str(swarm), address]
    with inside(host.namespace):
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_nodes_of_one_swarm_hear_each_other_and_no_others() -> None:
    if why := missing():
        pytest.skip(f"no network namespaces: {why}")
    with network() as net:
        hosts = [net.host() for _ in range(3)]
        swarms = (7, 8, 7)
        started = [look(host, swarms[place], place + 1) for place, host in enumerate(hosts)]
        try:
            heard = [started[place].stdout.readline().strip() for place in (0, 2)]  # type: ignore[union-attr]
        finally:
            for process in started:
                process.terminate()
        rest = [process.communicate(timeout=SECONDS)[0] for process in started]
    others = ((hosts[2], 3), (hosts[0], 1))
    assert heard == [f"/ip4/{host.address}/tcp/4001/p2p/{identity(number).peer_id}" for host, number in others]
    assert rest[1] == "", "the other swarm heard nobody"


def test_nodes_that_nobody_told_of_each_other_meet(tmp_path: Path) -> None:
    """Two real nodes without ``--join``, as a user starts them; those that are to keep still do not meet."""
    if why := missing():
        pytest.skip(f"no network namespaces: {why}")
    numbers = ROOT / "tests" / "programs" / "numbers"
    with swarm(tmp_path) as hive:
        hive.start_at([hive.net.host(), hive.net.host()], numbers, "--max-experiments", "1", join=False)
        hive.start_at([hive.net.host()], numbers, "--max-experiments", "1", "--no-mdns", join=False)
        one, two, still = hive.members
        assert took(lambda: one.peers() == {two.peer_id} and two.peers() == {one.peer_id}, SECONDS) is not None
        assert still.peers() == set()


async def test_who_is_on_this_machine_alone_says_nothing() -> None:
    with trio.fail_after(SECONDS):
        await find_neighbours(bytes(32), [f"/ip4/127.0.0.1/tcp/4001/p2p/{identity(1).peer_id}"], print)
        await find_neighbours(bytes(32), [], print)


def test_a_hint_changes_nothing_for_a_peer_that_is_known() -> None:
    book = AddressBook(identity(1).peer_id, random.Random(0))
    true, false = (f"/ip4/192.0.2.{host}/tcp/1/p2p/{identity(2).peer_id}" for host in (1, 2))
    book.hint(true)
    book.hint(false)
    assert book.candidate([], 0.0) == true
    with pytest.raises(ConnectError):
        book.hint("nonsense")
