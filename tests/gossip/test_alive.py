"""A peer that has frozen is noticed within fifteen seconds, from whichever side."""

import pytest
import trio

from gossip import wire
from gossip.alive import ALIVE, SAY_SECONDS, Alive
from gossip.memory import MemoryNetwork, MemoryTransport
from gossip.transport import Stream
from protocol.errors import RemoteProtocolError
from tests.gossip.members import identity
from tests.waiting import until

NOTICED_SECONDS = 15.0


async def nobody(peer: str) -> None:
    raise AssertionError(f"{peer} was given up")


def blame(error: RemoteProtocolError, peer: str) -> None:
    assert error.reason == "stream"


async def deaf(stream: Stream) -> None:
    """Says nothing, as a stopped process does whose kernel still acknowledges."""
    await trio.sleep_forever()


async def endless(stream: Stream) -> None:
    while True:
        await trio.sleep(SAY_SECONDS)
        await stream.send(b"x")


@pytest.fixture
def pair() -> tuple[MemoryTransport, MemoryTransport]:
    network = MemoryNetwork(seed=1, latency=lambda rng: rng.uniform(0.0, 0.1))
    one, other = (network.transport(identity(number).peer_id) for number in (1, 2))
    return one, other


async def test_who_says_that_it_lives_is_kept(
    pair: tuple[MemoryTransport, MemoryTransport], autojump_clock: object
) -> None:
    one, other = pair
    await one.connect(other.addresses()[0])
    other.handle(ALIVE, Alive(other, nobody, blame).answer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Alive(one, nobody, blame).watch, other.peer_id)
        await trio.sleep(600)
        nursery.cancel_scope.cancel()
    assert one.connected(other.peer_id)


async def test_who_dialed_notices_silence(
    pair: tuple[MemoryTransport, MemoryTransport], autojump_clock: object
) -> None:
    one, other = pair
    await one.connect(other.addresses()[0])
    other.handle(ALIVE, deaf)
    began = trio.current_time()
    await Alive(one, one.disconnect, blame).watch(other.peer_id)
    assert trio.current_time() - began < NOTICED_SECONDS
    assert not one.connected(other.peer_id)


async def test_who_was_dialed_notices_silence(
    pair: tuple[MemoryTransport, MemoryTransport], autojump_clock: object
) -> None:
    one, other = pair
    await one.connect(other.addresses()[0])
    other.handle(ALIVE, Alive(other, other.disconnect, blame).answer)
    stream = await one.open(other.peer_id, ALIVE)
    await wire.say(stream, "alive")
    began = trio.current_time()
    await until(lambda: not other.connected(one.peer_id), NOTICED_SECONDS)
    assert trio.current_time() - began > SAY_SECONDS


async def test_who_is_busy_with_something_else_lives(
    pair: tuple[MemoryTransport, MemoryTransport], autojump_clock: object
) -> None:
    """A large transfer on a slow link, behind which all else waits."""
    one, other = pair
    await one.connect(other.addresses()[0])
    other.handle(ALIVE, deaf)
    other.handle("/transfer", endless)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Alive(one, nobody, blame).watch, other.peer_id)
        stream = await one.open(other.peer_id, "/transfer")
        for _ in range(30):
            await stream.receive(1)
        nursery.cancel_scope.cancel()
    assert trio.current_time() > 10 * NOTICED_SECONDS


async def test_a_peer_that_does_not_speak_it_is_left_alone(
    pair: tuple[MemoryTransport, MemoryTransport], autojump_clock: object
) -> None:
    one, other = pair
    await one.connect(other.addresses()[0])
    await Alive(one, nobody, blame).watch(other.peer_id)
    assert one.connected(other.peer_id)
