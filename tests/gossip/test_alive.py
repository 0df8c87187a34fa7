"""A peer that has frozen is noticed within fifteen seconds, from whichever side."""


import pytest
import trio

from gossip import wire
from gossip.alive import ALIVE, Alive
from gossip.memory import MemoryNetwork, MemoryTransport
from gossip.transport import Stream
from tests.gossip.members import identity
from tests.waiting import until

NOTICED_SECONDS = 15.0


async def nobody(peer: str) -> None:
    raise AssertionError(f"{peer} was given up")


async def deaf(stream: Stream) -> None:
    """Takes the question and says nothing, as a stopped process does whose kernel still acknowledges."""
    await wire.hear(stream, "alive?")
    await trio.sleep_forever()


@pytest.fixture
def pair() -> tuple[MemoryTransport, MemoryTransport]:
    network = MemoryNetwork(seed=1, latency=lambda rng: rng.uniform(0.0, 0.1))
    one, other = (network.transport(identity(number).peer_id) for number in (1, 2))
    return one, other


async def test_who_answers_is_kept(pair: tuple[MemoryTransport, MemoryTransport], autojump_clock: object) -> None:
    one, other = pair
    await one.connect(other.addresses()[0])
    asker, answerer = Alive(one, nobody), Alive(other, nobody)
    other.handle(ALIVE, answerer.answer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker.watch, other.peer_id)
        await trio.sleep(600)
        nursery.cancel_scope.cancel()
    assert one.connected(other.peer_id)


async def test_who_asked_notices_a_silent_answerer(
    pair: tuple[MemoryTransport, MemoryTransport], autojump_clock: object
) -> None:
    one, other = pair
    await one.connect(other.addresses()[0])
    other.handle(ALIVE, deaf)
    began = trio.current_time()
    await Alive(one, one.disconnect).watch(other.peer_id)
    assert trio.current_time() - began < NOTICED_SECONDS
    assert not one.connected(other.peer_id)


async def test_who_is_asked_notices_when_the_questions_stop(
    pair: tuple[MemoryTransport, MemoryTransport], autojump_clock: object
) -> None:
    one, other = pair
    await one.connect(other.addresses()[0])
    other.handle(ALIVE, Alive(other, other.disconnect).answer)
    stream = await one.open(other.peer_id, ALIVE)
    await wire.say(stream, "alive?")
    await wire.hear(stream, "alive")
    began = trio.current_time()
    await until(lambda: not other.connected(one.peer_id), NOTICED_SECONDS)
    assert trio.current_time() - began > 5.0


async def test_a_peer_that_does_not_speak_it_is_left_alone(
    pair: tuple[MemoryTransport, MemoryTransport], autojump_clock: object
) -> None:
    one, other = pair
    await one.connect(other.addresses()[0])
    await Alive(one, nobody).watch(other.peer_id)
    assert one.connected(other.peer_id)
