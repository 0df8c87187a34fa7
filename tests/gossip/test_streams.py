"""How streams of real libp2p end, and what a peer may fill memory with on them. Each test is for one trap of
py-libp2p 0.8.1.
"""

from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.utils import read_exactly
from libp2p.network.stream.exceptions import StreamReset
from libp2p.peer.id import ID
from libp2p.stream_muxer.yamux import yamux

from gossip import endings, overrides, wire
from gossip.libp2p_transport import Libp2pTransport, open_transport
from gossip.transport import Stream
from protocol.errors import RemoteProtocolError
from tests.gossip.members import identity
from tests.gossip.nodes import SECONDS, Noted, alive, pair, sleep
from tests.left import tasks
from tests.waiting import until


@pytest.mark.parametrize("mended", [False, True], ids=["upstream", "mended"])
async def test_who_reads_a_stream_that_is_ended_on_his_own_side_is_woken(mended: bool) -> None:
    """Upstream is not: where the first of the two fails, ``reset`` in gossip/endings.py is not needed any more."""
    async with pair() as (one, two):
        one.handle("/silent/1", sleep)
        stream = await two._host.new_stream(ID.from_base58(one.peer_id), [TProtocol("/silent/1")])
        muxed = stream.muxed_stream
        ended = trio.Event()

        async def read() -> None:
            with suppress(StreamReset):
                await stream.read(1)
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await (endings.reset(stream) if mended else stream.reset())
            with trio.move_on_after(SECONDS if mended else 1.0):
                await ended.wait()
            assert ended.is_set() is mended
            assert muxed.stream_id not in muxed.conn.stream_events
            nursery.cancel_scope.cancel()


# What a peer may fill memory with.


def muxer(node: Libp2pTransport, peer: Libp2pTransport) -> Any:
    """Of the connection of a node with a peer."""
    (connection,) = node._network.get_connections(ID.from_base58(peer.peer_id))
    return connection.muxed_conn


def waiting(muxed: Any) -> int:
    """Bytes that wait to be read."""
    return sum(map(len, muxed.stream_buffers.values()))


async def raw_stream(node: Libp2pTransport, peer: Libp2pTransport, protocol: str) -> Any:
    """One whose opener minds no window."""
    stream: Any = await node._host.new_stream(ID.from_base58(peer.peer_id), [TProtocol(protocol)])
    stream.muxed_stream.send_window = 1 << 40
    return stream


async def greet(stream: Stream) -> None:
    await stream.send(b"hello")


async def heard(stream: Any) -> bytes:
    """Of one that was greeted."""
    with trio.fail_after(SECONDS):
        return await read_exactly(stream, 9)


async def test_streams_that_were_answered_are_not_kept_for_who_never_ends_them() -> None:
    """Upstream each stays for as long as the connection, and keeps what comes on it."""
    async with pair() as (one, two):
        one.handle("/greet/1", greet)
        before = len(muxer(one, two).streams)
        for _ in range(2 * overrides.MOST_STREAMS):
            stream = await raw_stream(two, one, "/greet/1")
            assert (await heard(stream)).endswith(b"hello")
        for _ in range(20):
            await stream.write(bytes(60_000))
        assert (await heard(await raw_stream(two, one, "/greet/1"))).endswith(b"hello")  # so all that has come
        await until(lambda: len(muxer(one, two).streams) <= before and not waiting(muxer(one, two)))


async def test_who_opened_a_stream_keeps_nothing_of_it_either() -> None:
    async with pair() as (one, two):
        told = trio.Event()

        async def tell_for_ever(stream: Any) -> None:
            await stream.write(b"\x00\x00\x00\x05hello")
            told.set()
            await trio.sleep_forever()

        one._host.set_stream_handler(TProtocol("/ever/1"), tell_for_ever)
        stream = await two.open(one.peer_id, "/ever/1")
        number = stream._stream.muxed_stream.stream_id  # type: ignore[attr-defined]
        assert number in muxer(two, one).streams
        assert await stream.receive(10) == b"hello"
        await stream.aclose()
        assert number not in muxer(two, one).streams


async def test_what_was_said_before_the_end_arrives_where_it_is_read_late() -> None:
    """The end says that no more comes, and nothing that would make the other side drop what came."""

    async def tell(stream: Stream) -> None:
        await stream.send(bytes(200_000))

    async with pair() as (one, two):
        one.handle("/tell/1", tell)
        before = len(muxer(one, two).streams)
        stream = await two.open(one.peer_id, "/tell/1")
        await until(lambda: waiting(muxer(two, one)) >= 200_000)
        await until(lambda: len(muxer(one, two).streams) <= before)
        assert len(await stream.receive(200_000)) == 200_000
        await stream.aclose()


async def test_who_sends_more_than_its_windows_allow_is_hung_up_on() -> None:
    """Upstream notes it in the log and keeps all that comes."""
    async with pair() as (one, two):
        one.handle("/silent/1", sleep)
        one.judged_by(noted := Noted())
        stream = await raw_stream(two, one, "/silent/1")
        muxed, most = muxer(one, two), 0
        with suppress(BaseLibp2pError):
            for _ in range(2 * overrides.MOST_WAITING_BYTES // 60_000):
                await stream.write(bytes(60_000))
                most = max(most, waiting(muxed))
        await until(lambda: not one.peers())
        assert most <= overrides.MOST_WAITING_BYTES
        assert noted.wrong == [("oversize", two.peer_id)]
        await alive(one)


@pytest.mark.parametrize("by", ["itself", "another"])
async def test_who_holds_most_is_hung_up_on_where_all_together_send_too_much(
    by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is within its own bound, whoever sends what is too much."""
    monkeypatch.setattr(overrides, "WINDOW_BYTES", 100_000)
    monkeypatch.setattr(overrides, "MOST_WAITING_OF_ALL", overrides.MOST_WAITING_BYTES * 3 // 4)
    large, small = overrides.MOST_WAITING_BYTES // 2, overrides.MOST_WAITING_BYTES // 5
    async with pair() as (one, two), open_transport(identity(3)) as three, open_transport(identity(4)) as four:
        one.handle("/silent/1", sleep)
        for node in (three, four):
            await node.connect(one.addresses()[0])
        one.judged_by(noted := Noted())
        sizes = [(three, small), (four, small), (two, large)]
        for node, size in sizes if by == "itself" else reversed(sizes):
            await until(lambda: {three.peer_id, four.peer_id} <= {*one.peers()})
            stream = await raw_stream(node, one, "/silent/1")
            with suppress(BaseLibp2pError):
                for _ in range(size // 60_000 + 1):
                    await stream.write(bytes(60_000))
            await until(lambda: two.peer_id not in one.peers() or waiting(muxer(one, node)) >= size)  # noqa: B023
        await until(lambda: {*one.peers()} == {three.peer_id, four.peer_id} and not two.peers())
        assert waiting(muxer(one, three)) >= small
        assert noted.wrong == [("quota", two.peer_id)]
        await alive(one)


async def test_who_keeps_to_the_windows_may_send_far_more_than_may_wait() -> None:
    """Several at once, whose readers begin when the first windows are full."""
    size = 2 * overrides.MOST_WAITING_BYTES
    came: list[int] = []

    async def give(stream: Stream) -> None:
        await wire.send_bytes(stream, bytes(size))

    async def take(stream: Stream) -> None:
        came.append(len(await wire.receive_bytes(stream, size) or b""))
        await stream.aclose()

    async with pair() as (one, two):
        one.handle("/give/1", give)
        streams = [await two.open(one.peer_id, "/give/1") for _ in range(4)]
        await until(lambda: waiting(muxer(two, one)) >= len(streams) * yamux.DEFAULT_WINDOW_SIZE)
        with trio.fail_after(6 * SECONDS):
            async with trio.open_nursery() as nursery:
                for stream in streams:
                    nursery.start_soon(take, stream)
        assert came == [size] * 4


async def test_streams_count_from_their_first_word_on() -> None:
    """Upstream there is a task for each that says nothing yet, without end."""
    async with pair() as (one, two):
        there = ID.from_base58(one.peer_id)
        one.judged_by(noted := Noted())
        before = tasks()
        for _ in range(8 * overrides.MOST_STREAMS):
            await two._network.new_stream(there)
        ended = await two._network.new_stream(there)
        with trio.fail_after(SECONDS), suppress(BaseLibp2pError):
            while await ended.read(100):
                pass
        await until(lambda: len(muxer(one, two).streams) <= overrides.MOST_STREAMS + 4)  # our own and the last
        assert tasks() <= before + 2 * overrides.MOST_STREAMS
        assert {*noted.wrong} == {("crowd", two.peer_id)}
        with pytest.raises(RemoteProtocolError):
            await two.open(one.peer_id, "/greet/1")
        await alive(one)
