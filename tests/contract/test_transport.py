"""What every transport promises, on each of them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio

from gossip.libp2p_transport import open_transport
from gossip.memory import HOST, MemoryNetwork
from gossip.transport import MAX_MESSAGE_BYTES, ConnectError, Stream, Transport
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.identity import Identity
from tests.waiting import until

LOCAL = "/ip4/127.0.0.1/tcp/0"
SECONDS = 10.0


def identity(number: int) -> Identity:
    return Identity(number.to_bytes(32, "big"))


class Memory:
    host = HOST

    def __init__(self) -> None:
        self._network = MemoryNetwork(latency=lambda rng: rng.uniform(0.001, 0.003))

    @asynccontextmanager
    async def node(self, number: int, listens: bool = True) -> AsyncIterator[Transport]:
        peer = identity(number).peer_id
        yield self._network.transport(peer, listens=listens)
        self._network.kill(peer)


class Libp2p:
    host = "127.0.0.1"

    def node(self, number: int, listens: bool = True) -> AbstractAsyncContextManager[Transport]:
        return open_transport(identity(number), [LOCAL] if listens else [])


World = Memory | Libp2p


@pytest.fixture(params=[Memory, Libp2p])
def world(request: pytest.FixtureRequest) -> World:
    made: World = request.param()
    return made


def anything(forwarder: str, data: bytes) -> bool:
    return True


async def join(one: Transport, other: Transport) -> None:
    await one.connect(other.addresses()[0])
    await until(lambda: one.peer_id in other.peers())


async def test_connects_by_address_and_both_sides_know(world: World) -> None:
    async with world.node(1) as one, world.node(2, listens=False) as two:
        assert one.addresses()[0].endswith(f"/p2p/{one.peer_id}")
        assert two.addresses() == []
        assert await two.connect(one.addresses()[0]) == one.peer_id
        with trio.fail_after(SECONDS):
            assert await one.arrivals().receive() == two.peer_id
            assert await two.arrivals().receive() == one.peer_id
        assert one.peers() == [two.peer_id]
        assert two.peer_address(one.peer_id) == one.addresses()[0]
        assert one.peer_address(two.peer_id) is None
        assert await two.connect(one.addresses()[0]) == one.peer_id


async def test_who_dialed_is_known_when_the_arrival_is_told(world: World) -> None:
    async with world.node(1) as one, world.node(2) as two, trio.open_nursery() as nursery:
        found = []

        async def watch(node: Transport) -> None:
            found.append((node.peer_id, node.peer_address(await node.arrivals().receive())))

        nursery.start_soon(watch, one)
        nursery.start_soon(watch, two)
        await two.connect(one.addresses()[0])
        await until(lambda: len(found) == 2)
        assert dict(found) == {one.peer_id: None, two.peer_id: one.addresses()[0]}


async def test_disconnects_and_connects_again(world: World) -> None:
    async with world.node(1) as one, world.node(2) as two:
        await join(two, one)
        await two.disconnect(one.peer_id)
        await until(lambda: not one.peers() and not two.peers())
        await join(two, one)


async def test_who_was_dialed_once_and_dials_now_was_not_dialed(world: World) -> None:
    async with world.node(1) as one, world.node(2) as two:
        await join(two, one)
        await two.disconnect(one.peer_id)
        await until(lambda: not one.peers() and not two.peers())
        await join(one, two)
        assert two.peer_address(one.peer_id) is None
        assert one.peer_address(two.peer_id) == two.addresses()[0]


async def test_says_in_one_line_why_it_cannot_connect(world: World) -> None:
    async with world.node(1) as one:
        there = one.addresses()[0].rpartition("/p2p/")[0]
        stranger = identity(9).peer_id
        for address, reason in {
            there: "no peer id",
            "somewhere": "not an address",
            f"{there}/p2p/xyz": "is not a peer id",
            one.addresses()[0]: "this node's own address",
            f"/ip4/127.0.0.1/tcp/1/p2p/{stranger}": "connection refused",
        }.items():
            with pytest.raises(ConnectError, match=reason) as raised:
                await one.connect(address)
            assert address in str(raised.value)
            assert "\n" not in str(raised.value)


async def test_a_topic_reaches_those_who_listen(world: World) -> None:
    async with world.node(1) as one, world.node(2) as two, world.node(3, listens=False) as three:
        inboxes = [await node.subscribe("bees", anything) for node in (one, two, three)]
        await join(two, one)
        await join(three, one)
        await arrives(two, "bees", inboxes[0], b"first")
        await arrives(two, "bees", inboxes[2], b"second")  # by way of one: three can't be dialed
        await arrives(three, "bees", inboxes[1], b"third")
        large = bytes(MAX_MESSAGE_BYTES)
        await arrives(two, "bees", inboxes[2], large)
        assert [node.mesh("bees") for node in (one, two, three)] == [2, 1, 1]
        assert one.mesh("wasps") == 0


async def test_says_at_which_host_a_peer_is(world: World) -> None:
    async with world.node(1) as one, world.node(2, listens=False) as two:
        assert one.host(two.peer_id) == ""
        await join(two, one)
        assert one.host(two.peer_id) == two.host(one.peer_id) == world.host


async def arrives(sender: Transport, topic: str, inbox: trio.MemoryReceiveChannel[tuple[str, bytes]],
                  data: bytes) -> None:  # fmt: skip
    """Say it until it is heard, as the mesh of a topic forms within moments; each time it is another message
    but for its first bytes, which are looked for.
    """
    with trio.fail_after(SECONDS):
        for number in range(1000):
            await sender.publish(topic, data if number == 0 else data[:-1] + bytes([number % 256]))
            with trio.move_on_after(0.3):
                while not (await inbox.receive())[1].startswith(data[:-1]):
                    pass
                return


async def test_what_the_validator_refuses_is_neither_delivered_nor_forwarded(world: World) -> None:
    async with world.node(1) as one, world.node(2) as two, world.node(3) as three:
        fromthree = await three.subscribe("bees", anything)
        asked = []

        def picky(forwarder: str, data: bytes) -> bool:
            asked.append((forwarder, data))
            if data == b"raise":
                raise ValueError(data)
            return data != b"refuse"

        fromone = await one.subscribe("bees", picky)
        await two.subscribe("bees", anything)
        await join(two, one)
        await join(three, one)
        await arrives(two, "bees", fromthree, b"good")
        for bad in (b"refuse", b"raise"):
            await two.publish("bees", bad)
            await until(lambda bad=bad: (two.peer_id, bad) in asked)  # type: ignore[misc]
        await arrives(two, "bees", fromthree, b"fine")
        assert not {data for _, data in drain(fromone) + drain(fromthree)} & {b"refuse", b"raise"}


def drain(inbox: trio.MemoryReceiveChannel[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    taken = []
    while True:
        try:
            taken.append(inbox.receive_nowait())
        except trio.WouldBlock:
            return taken


async def test_publishing_to_nobody_is_no_error(world: World) -> None:
    async with world.node(1) as one:
        await one.subscribe("bees", anything)
        await one.publish("bees", b"hello?")


async def test_a_topic_is_subscribed_once(world: World) -> None:
    async with world.node(1) as one:
        await one.subscribe("bees", anything)
        with pytest.raises(LocalProtocolError):
            await one.subscribe("bees", anything)


async def echo(stream: Stream) -> None:
    while True:
        await stream.send(await stream.receive(32 << 20))


async def test_streams_carry_frames_of_any_size_both_ways(world: World) -> None:
    async with world.node(1) as one, world.node(2) as two:
        one.handle("/echo/1", echo)
        await join(two, one)
        with trio.fail_after(60):
            stream = await two.open(one.peer_id, "/echo/1")
            assert stream.peer == one.peer_id
            for size in (0, 1, 70_000, 20 << 20):
                await stream.send(bytes(size))
                assert len(await stream.receive(32 << 20)) == size
            await stream.aclose()


async def test_whatever_comes_of_a_peer_is_noted_with_its_time(world: World) -> None:
    async with world.node(1) as one, world.node(2) as two:
        one.handle("/echo/1", echo)
        await join(two, one)
        stream = await two.open(one.peer_id, "/echo/1")
        before = trio.current_time()
        with trio.fail_after(SECONDS):
            await stream.send(b"hello")
            await stream.receive(100)
            assert before < two.heard(one.peer_id) <= trio.current_time()
            await until(lambda: one.heard(two.peer_id) > before)


async def test_a_frame_over_the_bound_is_refused(world: World) -> None:
    async with world.node(1) as one, world.node(2) as two:
        one.handle("/echo/1", echo)
        await join(two, one)
        stream = await two.open(one.peer_id, "/echo/1")
        await stream.send(bytes(1001))
        with pytest.raises(RemoteProtocolError, match="oversize"), trio.fail_after(SECONDS):
            await stream.receive(1000)
        await stream.aclose()


async def test_frames_before_the_end_arrive_and_then_the_stream_is_over(world: World) -> None:
    async def speak(stream: Stream) -> None:
        await stream.send(b"one")
        await stream.send(b"two")

    async with world.node(1) as one, world.node(2) as two:
        one.handle("/speak/1", speak)
        await join(two, one)
        stream = await two.open(one.peer_id, "/speak/1")
        with trio.fail_after(SECONDS):
            assert [await stream.receive(10), await stream.receive(10)] == [b"one", b"two"]
            with pytest.raises(RemoteProtocolError, match="stream"):
                await stream.receive(10)
        await stream.aclose()


async def test_a_handler_that_fails_ends_its_stream_alone(world: World) -> None:
    async def fail(stream: Stream) -> None:
        raise ValueError("a bug")

    async with world.node(1) as one, world.node(2) as two:
        one.handle("/fail/1", fail)
        one.handle("/echo/1", echo)
        await join(two, one)
        with trio.fail_after(SECONDS):
            broken = await two.open(one.peer_id, "/fail/1")
            with pytest.raises(RemoteProtocolError, match="stream"):
                await broken.receive(10)
            stream = await two.open(one.peer_id, "/echo/1")
            await stream.send(b"still there")
            assert await stream.receive(20) == b"still there"
            await stream.aclose()
            await broken.aclose()


async def test_a_protocol_that_nobody_speaks_and_a_peer_that_is_not_there(world: World) -> None:
    async with world.node(1) as one, world.node(2) as two:
        await join(two, one)
        with trio.fail_after(SECONDS):
            with pytest.raises(RemoteProtocolError, match="stream"):
                await two.open(one.peer_id, "/nothing/1")
            with pytest.raises(RemoteProtocolError, match="stream"):
                await two.open(identity(9).peer_id, "/echo/1")


async def test_a_peer_that_dies_breaks_its_streams_and_is_gone(world: World) -> None:
    async with world.node(2) as two:
        async with world.node(1) as one:
            one.handle("/echo/1", echo)
            await join(two, one)
            stream = await two.open(one.peer_id, "/echo/1")
            await stream.send(b"there?")
            with trio.fail_after(SECONDS):
                assert await stream.receive(10) == b"there?"
        with pytest.raises(RemoteProtocolError, match="stream"), trio.fail_after(SECONDS):
            await stream.receive(10)
        await until(lambda: not two.peers())
        await stream.aclose()
