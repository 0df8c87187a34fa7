"""Swarms on the in-memory network and a virtual clock: whatever the network does, all come to hold the
same.
"""


import pytest
import trio
from trio.testing import MockClock

from gossip.hello import Hello, fetch_program, hello
from gossip.live import MISSED, PRESENCE_SECONDS
from gossip.memory import MemoryNetwork
from gossip.swarm import SYNC_SECONDS
from protocol.errors import RemoteProtocolError
from protocol.manifest import pack
from protocol.manifest import swarm_id as swarm_id_of
from protocol.reconcile import MOST_IDS
from tests.gossip.members import Member, agree, identity
from tests.gossip.swarms import LONG, members_of, start
from tests.waiting import until


async def test_all_find_each_other_through_one(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(), 6)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.transport.peers()) == 5 for member in members), 30)
        await until(lambda: all(len(member.swarm.presences()) == 5 for member in members), 30)
        nursery.cancel_scope.cancel()


async def test_a_published_record_reaches_all_at_once(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(loss=0.05), 8)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.transport.peers()) == 7 for member in members), 60)
        await members[3].swarm.publish(members[3].note(1))
        await until(lambda: agree(members), 2)
        nursery.cancel_scope.cancel()


async def test_a_record_that_is_not_published_reaches_all_by_sync(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(), 5)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.transport.peers()) == 4 for member in members), 60)
        members[2].note(1)
        await until(lambda: agree(members), LONG)
        nursery.cancel_scope.cancel()


async def test_both_sides_of_one_exchange_get_what_they_lack(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    one, two = members_of(network, 2)
    for number in range(MOST_IDS + 10):
        one.note(number)
    for number in range(300):
        two.note(number)
    async with trio.open_nursery() as nursery:
        await start(nursery, [one, two])
        await until(lambda: agree([one, two]), 20)
        nursery.cancel_scope.cancel()
    assert len(one.records) == MOST_IDS + 310
    assert not one.rejected
    assert not two.rejected


async def test_a_late_joiner_with_nothing_gets_everything(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    first, late = members_of(network, 2)
    for number in range(2 * MOST_IDS + 5):
        first.note(number)
    async with trio.open_nursery() as nursery:
        await start(nursery, [first])
        await trio.sleep(100)
        await start(nursery, [late])
        await until(lambda: agree([first, late]), 20)
        nursery.cancel_scope.cancel()


async def test_where_nothing_is_missing_an_exchange_costs_next_to_nothing(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    members = members_of(network, 2)
    for number in range(1000):
        members[1].keep(members[0].note(number))
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await trio.sleep(SYNC_SECONDS)
        before = network.frame_bytes
        await trio.sleep(10 * SYNC_SECONDS)
        nursery.cancel_scope.cancel()
    assert network.frame_bytes - before < 20 * 200  # two nodes, ten exchanges each


async def test_two_halves_heal(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(loss=0.1)
    members = members_of(network, 30)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.swarm.presences()) > 20 for member in members), 200)
        peers = [member.transport.peer_id for member in members]
        network.partition([peers[:15], peers[15:]])
        for number, member in enumerate(members):
            await member.swarm.publish(member.note(number))
        await until(lambda: agree(members[:15]) and agree(members[15:]), LONG)
        assert not agree(members)
        network.heal()
        await until(lambda: agree(members), LONG)
        nursery.cancel_scope.cancel()


async def test_the_loss_of_the_bootstrap_is_a_non_event(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    members = members_of(network, 6)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.transport.peers()) == 5 for member in members), 60)
        network.kill(members[0].transport.peer_id)
        await members[1].swarm.publish(members[1].note(1))
        await until(lambda: agree(members[1:]), 2)
        await until(lambda: all(len(member.swarm.presences()) == 4 for member in members[1:]),
                    2 * MISSED * PRESENCE_SECONDS)  # fmt: skip
        nursery.cancel_scope.cancel()


async def test_a_node_that_comes_before_its_bootstrap_meets_it(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    late_address = network.transport(identity(1).peer_id).addresses()[0]
    network.kill(identity(1).peer_id)
    early = Member(2, network.transport(identity(2).peer_id), [late_address])
    async with trio.open_nursery() as nursery:
        await start(nursery, [early])
        await trio.sleep(600)
        late = Member(1, network.transport(identity(1).peer_id))
        await start(nursery, [late])
        await until(lambda: bool(late.transport.peers()), 130)
        nursery.cancel_scope.cancel()


async def test_an_asset_comes_from_whoever_has_the_right_one(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(), 4)
    commit = "ab" * 20
    members[1].assets[commit] = b"wrong"
    members[2].assets[commit] = bytes(3 << 20)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.transport.peers()) == 3 for member in members), 60)
        found = await members[0].swarm.fetch_asset(commit, lambda data: data == bytes(3 << 20))
        assert found == bytes(3 << 20)
        assert await members[0].swarm.fetch_asset("cd" * 20, lambda data: True) is None
        assert await members[0].swarm.fetch_asset(commit, lambda data: False) is None
        assert members[0].rejected["commit"] >= 2
        nursery.cancel_scope.cancel()


async def test_a_newcomer_without_a_program_asks_for_it() -> None:
    files = {"program.md": b"+++\n+++\n", "train.py": bytes(2 << 20)}
    program_id = swarm_id_of(files)
    network = MemoryNetwork(latency=lambda rng: 0.001)
    host = Member(1, network.transport(identity(1).peer_id), swarm_id=program_id, packed=pack(files))
    guest = network.transport(identity(2).peer_id)
    async with trio.open_nursery() as nursery:
        await start(nursery, [host])
        peer = await guest.connect(host.address)
        assert await hello(guest, peer) == Hello(program_id, "bees", None, "1")
        assert await fetch_program(guest, peer, program_id) == files
        with pytest.raises(RemoteProtocolError, match="program"):
            await fetch_program(guest, peer, bytes(32))
        nursery.cancel_scope.cancel()
