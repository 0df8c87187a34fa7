"""Swarms in memory for tests."""

import trio

from gossip.memory import MemoryNetwork
from gossip.swarm import SYNC_SECONDS
from tests.gossip.members import Member, identity
from tests.waiting import until

#: Virtual seconds: several exchanges with random peers.
LONG = 10 * SYNC_SECONDS


def members_of(network: MemoryNetwork, count: int) -> list[Member]:
    """Each knows the first alone."""
    first = Member(1, network.transport(identity(1).peer_id))
    others = [
        Member(number, network.transport(identity(number).peer_id), [first.address])
        for number in range(2, count + 1)
    ]
    return [first, *others]


async def start_and_meet(nursery: trio.Nursery, members: list[Member]) -> None:
    await start(nursery, members)
    await until(lambda: all(member.transport.peers() for member in members), 60)


async def start(nursery: trio.Nursery, members: list[Member]) -> None:
    for member in members:
        await nursery.start(member.swarm.run)
