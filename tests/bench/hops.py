"""Eight members over libp2p on loopback beside eight in the memory network, whose gossip is a plain flood: what a
record costs, and how long it takes.

    python -m tests.bench.hops [--members 8] [--records 50]

A hop is one copy of a message that comes to a member; a flood among eight that are all connected has 7 + 7 x 6 of
them for each message. Presences and claims are counted with the records.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import trio
from trio.testing import MockClock

from gossip.libp2p_transport import open_transport
from gossip.memory import MemoryNetwork
from gossip.overrides import SafePubsub
from gossip.transport import Transport
from tests.bench.record import machine
from tests.gossip.members import Member, identity, real_ms, virtual_ms
from tests.waiting import until

LOCAL = "/ip4/127.0.0.1/tcp/0"
#: All have dialed all, and meshes are made.
SETTLED_SECONDS = 20.0
#: One process does the work of all.
APART_SECONDS = 1.0


async def said(members: Sequence[Member], records: int, hops: Callable[[], int]) -> tuple[float, list[float]]:
    """Hops a record, and the time of each record at each other member."""
    await until(lambda: all(len(one.transport.peers()) == len(members) - 1 for one in members), 120)
    await trio.sleep(SETTLED_SECONDS)
    before, told = hops(), []
    for number in range(records):
        told.append(members[number % len(members)].note(number))
        await members[number % len(members)].swarm.publish(told[-1])
        await trio.sleep(APART_SECONDS)
    await until(lambda: all(one.id in member.records for one in told for member in members), 200)
    delays = [
        member.came[one.id] - min(other.came[one.id] for other in members)
        for one in told for member in members if member.identity.public_key != one.author
    ]  # fmt: skip
    return (hops() - before) / records, sorted(delays)


async def with_members(
    transports: Sequence[Transport], clock_ms: Callable[[], int], records: int, hops: Callable[[], int]
) -> tuple[float, list[float]]:
    async with trio.open_nursery() as nursery:
        members: list[Member] = []
        for number, transport in enumerate(transports, 1):
            known = [one.address for one in members[:1]]
            members.append(Member(number, transport, known, clock_ms=clock_ms))
            await nursery.start(members[-1].swarm.run)
        found = await said(members, records, hops)
        nursery.cancel_scope.cancel()
    return found


async def real(count: int, records: int) -> tuple[float, list[float]]:
    came = [0]
    push = SafePubsub.push_msg

    async def counted(self: SafePubsub, forwarder: object, message: object) -> None:
        came[0] += forwarder != self.my_id
        await push(self, forwarder, message)

    SafePubsub.push_msg = counted
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_transport(identity(number), [LOCAL])) for number in range(1, count + 1)
        ]
        return await with_members(opened, real_ms, records, lambda: came[0])


async def simulated(count: int, records: int) -> tuple[float, list[float]]:
    network = MemoryNetwork(latency=lambda rng: rng.uniform(0.001, 0.003))
    transports = [network.transport(identity(number).peer_id) for number in range(1, count + 1)]
    return await with_members(transports, virtual_ms, records, lambda: network.messages)


def main(count: int, records: int) -> None:
    print(f"{machine()}; {count} members, {records} records")
    found = {
        "libp2p, loopback": trio.run(real, count, records),
        "memory, 1-3 ms": trio.run(simulated, count, records, clock=MockClock(autojump_threshold=0)),
    }
    for name, (hops, delays) in found.items():
        print(
            f"{name:<17} {hops:5.1f} hops a record; median {1000 * statistics.median(delays):6.1f} ms,"
            f" 99 % within {1000 * delays[round(0.99 * len(delays)) - 1]:6.1f} ms"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--records", type=int, default=50)
    given = parser.parse_args()
    main(given.members, given.records)
