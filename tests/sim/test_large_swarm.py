"""What two hundred members of a swarm may expect of it, on a virtual clock; each claim beside a run that lacks what
it needs, where it does not hold.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from functools import lru_cache

import pytest
import trio
from trio.testing import MockClock

from gossip import gate, live
from gossip.gate import AHEAD_MS
from gossip.swarm import SYNC_SECONDS
from protocol.records import open_record
from tests.sim.crowd import Crowd, Lacks, within

#: The longest takes some two minutes of a core that it has for itself.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("one_check")]

MEMBERS = 200
#: Where a claim is seen to fail, fewer show it.
FEW = 40
#: DESIGN's number for a new best.
BEST_SECONDS = 3.0
#: Rounds of exchange with a random peer in which a record comes to all of them, and as many again.
SYNCED_SECONDS = 16 * SYNC_SECONDS
#: Virtual seconds until each has as many peers as it wants.
CONNECTED_SECONDS = 300.0


@pytest.fixture
def one_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature is verified once for all members of the process: it is the same for each."""
    monkeypatch.setattr(gate, "open_record", lru_cache(maxsize=1 << 14)(open_record))


@contextlib.asynccontextmanager
async def crowd(
    count: int = MEMBERS, lacks: Lacks = Lacks.NOTHING, *, loss: float = 0.01,
    skew_ms: Callable[[int], int] = lambda number: 0,
) -> AsyncIterator[Crowd]:  # fmt: skip
    """Well connected, but for those that lack what it takes."""
    async with trio.open_nursery() as nursery:
        made = Crowd(nursery, loss=loss, lacks=lacks, skew_ms=skew_ms)
        await made.grow(count)
        await within(CONNECTED_SECONDS, made.connected)
        yield made
        nursery.cancel_scope.cancel()


async def every_minute(swarm: Crowd, minutes: int, authors: Callable[[], Collection[int]]) -> list[str]:
    """Some members say something each minute; the ids of it."""
    said = []
    for _ in range(minutes):
        said += [record.id for record in await swarm.say(authors())]
        await trio.sleep(60)
    return said


# a new best


@pytest.mark.parametrize(("lacks", "count"), [(Lacks.NOTHING, MEMBERS), (Lacks.GOSSIP, FEW)])
async def test_a_new_best_reaches_all_within_seconds(
    lacks: Lacks, count: int, autojump_clock: MockClock
) -> None:
    async with crowd(count, lacks) as swarm:
        took = []
        for number in swarm.rng.sample(sorted(swarm.members), 10):
            (record,) = await swarm.say([number])
            await within(SYNCED_SECONDS, lambda record=record: not swarm.missing([record.id]))
            took.append(swarm.reached(record.id))
        print(f"\n{count} members without {lacks.value}: a record to all within {sorted(took)[5]:.2f} s in the median"
              f" and {max(took):.2f} s at most")  # fmt: skip
        assert (max(took) <= BEST_SECONDS) is (lacks is Lacks.NOTHING)


@pytest.mark.parametrize("rate", [1.0, 1e9], ids=["bounded", "not bounded"])
async def test_presence_costs_no_more_in_a_large_swarm(
    rate: float, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Messages of a member in a minute in which nobody says anything."""
    monkeypatch.setattr(live, "PRESENCES_A_SECOND", rate)
    cost = {}
    for count in (FEW, 3 * FEW):
        async with crowd(count) as swarm:
            await trio.sleep(CONNECTED_SECONDS)
            before = swarm.network.messages
            await trio.sleep(300)
            cost[count] = round((swarm.network.messages - before) / count / 5)
    print(f"\nmessages of a member in a quiet minute, at {rate:g} presences a second at most, by members: {cost}")
    assert (cost[3 * FEW] < 1.5 * cost[FEW]) is (rate == 1.0)


# half of them die


@pytest.mark.parametrize(("lacks", "count"), [(Lacks.NOTHING, MEMBERS), (Lacks.ADDRESSES, FEW)])
async def test_half_of_them_die_at_once_and_the_bootstrap_with_them(
    lacks: Lacks, count: int, autojump_clock: MockClock
) -> None:
    async with crowd(count, lacks) as swarm:
        dead = {1, *swarm.rng.sample(range(2, count + 1), count // 2 - 1)}
        records = await swarm.say(sorted(swarm.members))
        swarm.kill(dead)
        said = [record.id for record in records if swarm.numbers_of([record.peer_id])]
        said += [record.id for record in await swarm.say(sorted(swarm.members))]
        assert len(said) == 2 * (count - len(dead))
        healed = await within(SYNCED_SECONDS, lambda: not swarm.missing(said))
        print(f"\n{len(dead)} of {count} dead, without {lacks.value}: {swarm.missing(said)} missing")
        assert healed is (lacks is Lacks.NOTHING)
        if lacks is Lacks.NOTHING:
            assert await within(CONNECTED_SECONDS, swarm.connected)


# a partition


@pytest.mark.parametrize(
    ("lacks", "count"), [(Lacks.NOTHING, MEMBERS), (Lacks.SYNC, FEW), (Lacks.EXPLORING, FEW)]
)
async def test_a_partition_of_half_an_hour_heals_into_one_ledger(
    lacks: Lacks, count: int, autojump_clock: MockClock
) -> None:
    async with crowd(count, lacks) as swarm:
        halves = sorted(swarm.members)[::2], sorted(swarm.members)[1::2]
        swarm.network.partition([[swarm.members[number].transport.peer_id for number in half] for half in halves])
        said = await every_minute(swarm, 30, lambda: [swarm.rng.choice(half) for half in halves])
        assert swarm.missing(said) >= 30 * len(halves[0])  # neither half has anything of the other
        swarm.network.heal()
        begun = trio.current_time()
        healed = await within(SYNCED_SECONDS, lambda: not swarm.missing(said))
        print(f"\n{count} members without {lacks.value} after a partition: {swarm.missing(said)} records missing"
              f" {trio.current_time() - begun:.0f} s after its end")  # fmt: skip
        assert healed is (lacks is Lacks.NOTHING)


# coming and going


@pytest.mark.parametrize(("lacks", "count"), [(Lacks.NOTHING, MEMBERS), (Lacks.SYNC, FEW)])
async def test_one_in_twenty_goes_and_another_comes_each_round(
    lacks: Lacks, count: int, autojump_clock: MockClock
) -> None:
    async with crowd(count, lacks) as swarm:
        said: list[str] = []
        for _ in range(25):
            for number in swarm.rng.sample(sorted(swarm.members), count // 20):
                swarm.kill([number])
            await swarm.grow(count // 20)
            said += await every_minute(swarm, 1, lambda: [swarm.rng.choice(sorted(swarm.members))])
        healed = await within(SYNCED_SECONDS, lambda: not swarm.missing(said))
        print(f"\n{count} members without {lacks.value} after churn: {swarm.missing(said)} missing")
        assert healed is (lacks is Lacks.NOTHING)


# clocks


@pytest.mark.parametrize("ahead_ms", [AHEAD_MS // 2, 2 * AHEAD_MS])
async def test_clocks_that_are_minutes_off_do_not_matter(ahead_ms: int, autojump_clock: MockClock) -> None:
    """Half of the members are ahead of the other half. Where they are by more than is allowed, what they say waits,
    and nobody is blamed.
    """
    async with crowd(FEW, skew_ms=lambda number: ahead_ms if number % 2 else 0) as swarm:
        said = [record.id for record in await swarm.say([1, 2])]
        held = await within(ahead_ms / 4000, lambda: not swarm.missing(said))
        rejected = {reason for member in swarm.members.values() for reason in member.rejected}
        assert held is (ahead_ms < AHEAD_MS)
        assert rejected == (set() if held else {"future"})
        assert all(member.transport.peers() for member in swarm.members.values())
        if not held:
            assert await within(ahead_ms / 1000 + SYNCED_SECONDS, lambda: not swarm.missing(said))
