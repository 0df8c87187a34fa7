"""Hundreds of members of one swarm on the in-memory network, for what gossip and sync do by themselves.

Whole nodes are too heavy for that: a member keeps its records in a dictionary (tests/gossip/members.py). What it
lacks beside others, so that a claim can be seen to fail, is in ``Lacks``.
"""

import math
import random
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from typing import Any

import trio

from gossip.alive import ALIVE
from gossip.book import ENOUGH
from gossip.memory import MemoryNetwork, MemoryTransport
from gossip.transport import ConnectError, Handler
from protocol.records import Record
from tests.gossip.members import Member, identity, virtual_ms
from tests.sim.swarm import latency, seed_scheduler

#: Members come this far apart, in virtual seconds.
APART_SECONDS = 0.2
#: A look at all members costs as much as they do in a tenth of a virtual second.
LOOK_SECONDS = 0.5
#: Members that a newcomer knows: the addresses that its user was given.
TOLD = 3


class Lacks(Enum):
    """What the members of a control run go without."""

    NOTHING = "nothing"
    GOSSIP = "gossip"
    SYNC = "sync"
    ADDRESSES = "addresses"
    EXPLORING = "exploring"


class Quiet:
    """A transport without keep-alive: in the memory network a connection that is broken is gone at once."""

    def __init__(self, inner: MemoryTransport) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def handle(self, protocol: str, handler: Handler) -> None:
        if protocol != ALIVE:
            self._inner.handle(protocol, handler)


class Mute(Quiet):
    """Nothing is gossiped."""

    async def publish(self, topic: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()


class Content(Quiet):
    """Who has enough peers dials nobody."""

    async def connect(self, address: str) -> str:
        if len(self._inner.peers()) >= ENOUGH:
            raise ConnectError(f"{address}: there are peers enough")
        return await self._inner.connect(address)


class Forgetful(Member):
    """One that has nothing to offer in an exchange, and so is offered nothing new: both sides seem the same."""

    def ids(self) -> Collection[str]:
        return ()


class Crowd:
    """Members by number; 1 is the bootstrap of all that come before anybody dies. ``clock_ms`` gives the clock of a
    member by its number, in milliseconds since 1970.
    """

    def __init__(
        self, nursery: trio.Nursery, *, seed: int = 1, loss: float = 0.01, lacks: Lacks = Lacks.NOTHING,
        skew_ms: Callable[[int], int] = lambda number: 0,
    ) -> None:  # fmt: skip
        seed_scheduler(seed)
        self.rng = random.Random(seed)
        self.network = MemoryNetwork(seed, latency, loss)
        self.members: dict[int, Member] = {}
        self._nursery = nursery
        self._lacks = lacks
        self._skew_ms = skew_ms
        self._ends: dict[int, trio.CancelScope] = {}
        self._count = 0

    async def grow(self, count: int) -> list[Member]:
        """So many more members, each told of some that are there."""
        came = []
        for _ in range(count):
            self._count += 1
            came.append(await self._nursery.start(self._live, self._count))
            await trio.sleep(APART_SECONDS)
        return came

    async def _live(self, number: int, *, task_status: trio.TaskStatus[Member]) -> None:
        with trio.CancelScope() as self._ends[number]:
            member = self._member(number)
            self.members[number] = member
            async with trio.open_nursery() as nursery:
                await nursery.start(member.swarm.run)
                task_status.started(member)

    def _member(self, number: int) -> Member:
        listens = number == 1 or self._lacks is not Lacks.ADDRESSES
        inner = self.network.transport(identity(number).peer_id, listens=listens)
        kind = {Lacks.GOSSIP: Mute, Lacks.EXPLORING: Content}.get(self._lacks, Quiet)
        ahead_ms = self._skew_ms(number)
        make = Forgetful if self._lacks is Lacks.SYNC else Member
        return make(number, kind(inner), self._told(), clock_ms=lambda: virtual_ms() + ahead_ms)

    def _told(self) -> list[str]:
        there = [1] if 1 in self.members else self.rng.sample(sorted(self.members), min(TOLD, len(self.members)))
        return [self.members[number].address for number in there]

    def kill(self, numbers: Iterable[int]) -> None:
        """End members as kill -9 would, all at once."""
        for number in list(numbers):
            self.network.kill(self.members.pop(number).transport.peer_id)
            self._ends.pop(number).cancel()

    def numbers_of(self, peers: Collection[str]) -> list[int]:
        return [number for number, member in self.members.items() if member.transport.peer_id in peers]

    async def say(self, numbers: Iterable[int]) -> list[Record]:
        """Each member publishes a record, all at once."""
        records = [self.members[number].note(number) for number in numbers]
        async with trio.open_nursery() as nursery:
            for number, record in zip(numbers, records, strict=True):
                nursery.start_soon(self.members[number].swarm.publish, record)
        return records

    def connected(self) -> bool:
        """Whether each has as many peers as it wants."""
        return all(len(member.transport.peers()) >= ENOUGH for member in self.members.values())

    def missing(self, records: Collection[str]) -> int:
        """How many of these records, by id, all members together lack."""
        return sum(name not in member.records for member in self.members.values() for name in records)

    def reached(self, record: str) -> float:
        """Virtual seconds from a record's being made to the last member's having it, which may be without end."""
        came = [member.came.get(record, math.inf) for member in self.members.values()]
        return max(came) - min(came)


async def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` holds at some look until so many virtual seconds have passed."""
    end = trio.current_time() + seconds
    while not condition():
        if trio.current_time() >= end:
            return False
        await trio.sleep(LOOK_SECONDS)
    return True
