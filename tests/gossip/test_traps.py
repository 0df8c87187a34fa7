"""What must hold of libp2p as we use it, each test for one trap of py-libp2p 0.8.1, measured or read."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import Any

import pytest
import trio
import trio.testing
import uvloop
from libp2p import new_host
from libp2p.connection_types import ConnectionType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.trio import TrioTCPStream
from libp2p.io.utils import read_exactly
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.stream.exceptions import StreamReset
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.pb import rpc_pb2
from libp2p.relay.circuit_v2.dcutr import DCUtRProtocol
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID, CircuitV2Protocol
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from gossip import overrides, punch, wire
from gossip.circuit import HOP, opened, tell, told
from gossip.libp2p_transport import Libp2pTransport, open_transport
from gossip.transport import ConnectError, Stream
from protocol.errors import RemoteProtocolError, UserError
from tests.gossip.members import Member, agree, identity, real_ms
from tests.left import tasks
from tests.waiting import until

LOCAL = "/ip4/127.0.0.1/tcp/0"
MESHSUB = TProtocol("/meshsub/1.1.0")
SECONDS = 10.0


def anything(forwarder: str, data: bytes) -> bool:
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Libp2pTransport, Libp2pTransport]]:
    """Two connected nodes, the second of which dialed."""
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        await two.connect(one.addresses()[0])
        yield one, two


async def alive(node: Libp2pTransport) -> None:
    """A stranger can connect to the node and is heard."""
    inbox = await node.subscribe("alive", anything)
    async with open_transport(identity(77)) as stranger:
        await stranger.subscribe("alive", anything)
        await stranger.connect(node.addresses()[0])
        with trio.fail_after(SECONDS):
            for number in range(100):
                await stranger.publish("alive", b"%d" % number)
                with trio.move_on_after(0.2):
                    await inbox.receive()
                    return
    raise AssertionError("nothing was heard")


def rpcs() -> dict[str, bytes]:
    """What a hostile peer may write to a gossip stream."""
    bad_sender = rpc_pb2.RPC()
    message = bad_sender.publish.add(from_id=b"\xff" * 5, seqno=b"1", data=b"x", topicIDs=["bees"])
    message.key, message.signature = b"\xff\xff", b"?"
    no_fields = rpc_pb2.RPC()
    no_fields.publish.add(topicIDs=["bees"])
    controls = rpc_pb2.RPC()
    controls.control.ihave.add(topicID="bees", messageIDs=[b"\xff\xfe", b"zz"])
    controls.control.iwant.add(messageIDs=[b"\xff"])
    controls.control.graft.add(topicID="bees")
    controls.control.prune.add(topicID="bees", backoff=2**63)
    record = rpc_pb2.RPC(senderRecord=b"\xff" * 40)
    return {
        "no protobuf": encode_varint_prefixed(b"\xff" * 50),
        "huge length": b"\xff" * 9 + b"\x01",
        "bad sender": encode_varint_prefixed(bad_sender.SerializeToString()),
        "no fields": encode_varint_prefixed(no_fields.SerializeToString()),
        "controls": encode_varint_prefixed(controls.SerializeToString()),
        "sender record": encode_varint_prefixed(record.SerializeToString()),
    }


@pytest.mark.parametrize("name", rpcs())
async def test_malformed_gossip_ends_nothing(name: str) -> None:
    async with pair() as (one, two):
        await one.subscribe("bees", anything)
        stream = await two._host.new_stream(ID.from_base58(one.peer_id), [MESHSUB])
        await stream.write(rpcs()[name])
        await alive(one)


async def test_a_garbled_choice_of_protocol_ends_nothing() -> None:
    async with pair() as (one, two):
        for garbage in (b"\xff" * 40, b"\x13/multistream/1.0.0\n\xff\xff\xff\xff\x7f", b"\x00" * 8):
            stream = await two._network.new_stream(ID.from_base58(one.peer_id))
            await stream.write(garbage)
            await stream.close()
        await alive(one)


#: Words in the choice of a protocol that are none: no UTF-8, without an end, longer than any name.
NO_WORDS = [b"\x04\xff\xff\xff\n", b"\x03/no", b"\xff\xff\xff\xff\x0f" + b"x" * 100]


@pytest.mark.parametrize("garbage", NO_WORDS)
async def test_a_garbled_answer_to_the_choice_of_protocol_ends_nothing(garbage: bytes) -> None:
    """Upstream raises a ValueError where the node opened the stream: nothing between there and its end expects one."""
    async with pair() as (evil, node):

        async def garble(stream: Any) -> None:
            await stream.write(garbage)
            await stream.close()

        evil._network.set_stream_handler(garble)
        with pytest.raises(RemoteProtocolError, match="does not open"):
            await node.open(evil.peer_id, "/any/1")
        with pytest.raises(RemoteProtocolError, match="does not open"):
            await opened(node._host, evil.peer_id, HOP)
        await evil.subscribe("still", anything)
        assert node.peers() == [evil.peer_id]


GREETING = b"\x13/multistream/1.0.0\n"
GARBLED = {
    "no words": GREETING + NO_WORDS[0],
    "no noise": GREETING + b"\x07/noise\n" + b"\x00\x30" + b"\xff" * 48,
    "empty noise": GREETING + b"\x07/noise\n" + b"\x00\x00",
    "half of noise": GREETING + b"\x07/noise\n" + b"\x00\x20" + b"\x09" * 32 + b"\x00\x30" + b"\xff" * 48,
}


@pytest.mark.parametrize("dials", [True, False], ids=["dials", "is dialed"])
@pytest.mark.parametrize("name", GARBLED)
async def test_a_garbled_handshake_fails_as_any_other(name: str, dials: bool) -> None:
    """Whatever a connection is made of: a circuit, or a socket that came through a hole."""
    ours, theirs = trio.testing.memory_stream_pair()

    class Raw(TrioTCPStream):  # type: ignore[misc]
        def get_remote_address(self) -> None:
            return None

    async with open_transport(identity(1)) as node:
        raw = RawConnection(Raw(ours), dials, ConnectionType.RELAYED, [Multiaddr("/ip4/192.0.2.7/tcp/1")])

        async def upgrade() -> None:
            if dials:
                await node._network.upgrade_outbound_raw_conn(raw, ID.from_base58(identity(2).peer_id))
            else:
                await node._network.upgrade_inbound_raw_conn(raw, Multiaddr("/ip4/0.0.0.0"))

        async def garble() -> None:
            await theirs.send_all(GARBLED[name])
            await theirs.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(garble)
            with trio.fail_after(SECONDS), pytest.raises(BaseLibp2pError):
                await upgrade()


async def test_gossip_after_a_quick_restart_is_not_taken_for_old() -> None:
    """Sequence numbers begin at whole seconds upstream: of 40 messages after a restart 36 were lost."""
    async with open_transport(identity(1), [LOCAL]) as one:
        inbox = await one.subscribe("bees", anything)
        heard: set[bytes] = set()

        async def listen() -> None:
            async for _, data in inbox:
                heard.add(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            for life in range(2):
                async with open_transport(identity(2)) as two:
                    await two.subscribe("bees", anything)
                    await two.connect(one.addresses()[0])
                    await until(lambda: two._pubsub.peer_topics.get("bees"))  # type: ignore[arg-type]
                    sent = {b"%d of life %d" % (number, life) for number in range(40)}
                    for data in sorted(sent):
                        await two.publish("bees", data)
                    await until(lambda: sent <= heard)  # noqa: B023
            nursery.cancel_scope.cancel()


async def test_what_two_publish_is_one_message() -> None:
    """Upstream a message is named by its publisher and number, so a record that several tell is delivered as often."""
    async with pair() as (one, two), open_transport(identity(3)) as three:
        inbox = await one.subscribe("bees", anything)
        await three.connect(one.addresses()[0])
        with trio.fail_after(SECONDS):
            for publisher, own in ((two, b"by two"), (three, b"by three")):
                await until(lambda: publisher._pubsub.peer_topics.get("bees"))  # type: ignore[arg-type]  # noqa: B023
                for data in (b"same", own):
                    await publisher.publish("bees", data)
            heard = [(await inbox.receive())[1] for _ in range(3)]
        assert sorted(heard) == [b"by three", b"by two", b"same"]


async def test_peers_that_come_while_a_node_starts_do_not_end_it() -> None:
    """Upstream a peer that connects before pubsub runs ends the host; so the node listens last."""
    port = free_port()
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{identity(1).peer_id}"
    async with open_transport(identity(2)) as two, open_transport(identity(3)) as three:

        async def hammer(node: Libp2pTransport) -> None:
            while True:
                with suppress(ConnectError):
                    await node.connect(address)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hammer, two)
            nursery.start_soon(hammer, three)
            for _ in range(2):
                async with open_transport(identity(1), [f"/ip4/127.0.0.1/tcp/{port}"]) as one:
                    await until(lambda: len(one.peers()) == 2)
                    await alive(one)
            nursery.cancel_scope.cancel()


async def test_connections_that_end_leave_nothing_behind() -> None:
    """Upstream each inbound connection keeps a task and a token of a limiter, which is exhausted for ever in
    the end.
    """
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        for _ in range(5):
            await two.connect(one.addresses()[0])
            await until(lambda: one.peers() == [two.peer_id])
            await two.disconnect(one.peer_id)
            await until(lambda: not one.peers())
        await until(lambda: one._network._inbound_limiter.borrowed_tokens == 0)


async def test_only_noise_is_spoken() -> None:
    """The default host also takes plaintext, where a peer may claim any identity."""
    keys = create_new_key_pair(identity(5).seed)
    async with open_transport(identity(1), [LOCAL]) as one:
        plain = new_host(
            key_pair=keys, sec_opt={TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(keys)}
        )
        async with plain.run(listen_addrs=[]):
            with pytest.raises(Exception, match="unable to connect"), trio.fail_after(SECONDS):
                await plain.connect(info_from_p2p_addr(Multiaddr(one.addresses()[0])))
            await plain.close()
        assert one.peers() == []


async def test_another_peer_than_expected_is_named() -> None:
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        wrong = one.addresses()[0].replace(one.peer_id, identity(9).peer_id)
        with pytest.raises(ConnectError, match=f"another peer answers there; its id is {one.peer_id}"):
            await two.connect(wrong)


async def test_a_dial_that_failed_can_be_repeated_at_once() -> None:
    """Upstream bars a peer for a minute after a failed dial."""
    port = free_port()
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{identity(1).peer_id}"
    async with open_transport(identity(2)) as two:
        with pytest.raises(ConnectError, match="connection refused"):
            await two.connect(address)
        async with open_transport(identity(1), [f"/ip4/127.0.0.1/tcp/{port}"]):
            assert await two.connect(address) == identity(1).peer_id


async def test_an_address_is_dialed_and_not_another_that_the_peer_is_known_by() -> None:
    async with pair() as (one, two):
        wrong = f"/ip4/127.0.0.1/tcp/1/p2p/{one.peer_id}"
        await two.disconnect(one.peer_id)
        await until(lambda: not two.peers())
        with pytest.raises(ConnectError, match="connection refused"):
            await two.connect(wrong)


async def test_two_nodes_of_one_user_do_not_share_a_port() -> None:
    """libp2p listens with SO_REUSEPORT, so the second bind would succeed and take half of the connections."""
    async with open_transport(identity(1), [LOCAL]) as one:
        taken = one.addresses()[0].rpartition("/p2p/")[0]
        with pytest.raises(UserError, match=f"cannot listen at {taken}: its port is in use"):
            async with open_transport(identity(2), [taken]):
                pass


@pytest.mark.parametrize(
    "address",
    ["/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1", "nonsense", "/dns4/localhost/tcp/1", "/ip4/192.0.2.1/tcp/1"],
)
async def test_a_place_where_one_cannot_listen_is_named(address: str) -> None:
    with pytest.raises(UserError, match=f"cannot listen at {address}"):
        async with open_transport(identity(1), [address]):
            pass


@pytest.mark.parametrize("host", ["/ip6/::1", "/dns4/localhost"])
async def test_other_kinds_of_addresses(host: str) -> None:
    listen = "/ip6/::1/tcp/0" if host.startswith("/ip6") else LOCAL
    try:
        async with open_transport(identity(1), [listen]) as one, open_transport(identity(2)) as two:
            port = one.addresses()[0].split("/")[4]
            assert await two.connect(f"{host}/tcp/{port}/p2p/{one.peer_id}") == one.peer_id
    except UserError as error:
        pytest.skip(f"this machine has no such network: {error}")


async def test_a_node_that_listens_everywhere_names_real_addresses() -> None:
    async with open_transport(identity(1), ["/ip4/0.0.0.0/tcp/0"], ["/dns4/bees.example/tcp/4001"]) as one:
        assert one.addresses()[0] == f"/dns4/bees.example/tcp/4001/p2p/{one.peer_id}"
        assert not any("0.0.0.0" in address for address in one.addresses())
        assert one.addresses()[-1].startswith("/ip4/127.0.0.1/")


async def test_what_the_block_raises_is_not_wrapped() -> None:
    with pytest.raises(UserError, match="a line"):
        async with open_transport(identity(1), [LOCAL]):
            raise UserError("a line")


async def test_nobody_is_dialed_unasked() -> None:
    """Upstream dials all peers that it knows, which would undo every disconnect."""
    async with pair() as (one, two):
        await two.disconnect(one.peer_id)
        await until(lambda: not one.peers() and not two.peers())
        await two._network.auto_connector.maybe_connect()
        assert not two.peers()


async def test_a_failed_dial_says_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with open_transport(identity(1)) as one:
        with pytest.raises(ConnectError):
            await one.connect(f"/ip4/127.0.0.1/tcp/1/p2p/{identity(2).peer_id}")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_closed_node_leaves_no_connection_behind() -> None:
    async with open_transport(identity(1), [LOCAL]) as one:
        async with open_transport(identity(2)) as two:
            await two.connect(one.addresses()[0])
            await until(lambda: one.peers() == [two.peer_id])
        await until(lambda: not one.peers())


def _add_stranger(store: Any, number: int) -> None:
    """Make the store know one more peer."""
    key = create_new_key_pair(number.to_bytes(32, "big")).public_key
    peer = ID.from_pubkey(key)
    store.add_pubkey(peer, key)
    store.add_addr(peer, Multiaddr("/ip4/192.0.2.7/tcp/1"), 3600)


@pytest.mark.parametrize("by", ["every five minutes", "with every address"])
async def test_a_thousand_strangers_do_not_make_a_node_forget_itself_or_its_peers(by: str) -> None:
    """They have been there, and left; some came before the peers that are here."""
    async with pair() as (one, two):
        store = one._network.peerstore
        known = dict(store.peer_data_map)
        store.peer_data_map.clear()
        for number in range(100, 100 + store.max_peers + 50):
            _add_stranger(store, number)
        store.peer_data_map.update(known)
        if by == "with every address":
            _add_stranger(store, 99)
        else:
            store._cleanup_expired_records()
        assert len(store.peer_data_map) == store.max_peers
        inbox = await two.subscribe("here", anything)
        await one.subscribe("here", anything)
        with trio.fail_after(SECONDS):
            while True:
                await one.publish("here", b"still here")
                with trio.move_on_after(0.5):
                    assert await inbox.receive() == (one.peer_id, b"still here")
                    break
        assert (await one.open(two.peer_id, "/ipfs/ping/1.0.0")).peer == two.peer_id


def test_upstream_a_node_forgets_itself() -> None:
    """Where this fails, ``keep_known`` in gossip/overrides.py is not needed any more."""
    host = new_host(key_pair=create_new_key_pair(bytes(32)))
    store: Any = host.get_peerstore()
    for number in range(1, store.max_peers + 2):
        _add_stranger(store, number)
    assert not store.has_peer(host.get_id())


@pytest.mark.parametrize("mended", [False, True], ids=["upstream", "mended"])
async def test_who_reads_a_stream_that_is_ended_on_his_own_side_is_woken(mended: bool) -> None:
    """Upstream is not: where the first of the two fails, ``reset`` in gossip/overrides.py is not needed any more."""
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
            await (overrides.reset(stream) if mended else stream.reset())
            with trio.move_on_after(SECONDS if mended else 1.0):
                await ended.wait()
            assert ended.is_set() is mended
            assert muxed.stream_id not in muxed.conn.stream_events
            nursery.cancel_scope.cancel()


async def sleep(stream: Stream) -> None:
    await trio.sleep_forever()


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
        await until(lambda: len(muxer(one, two).streams) <= before)
        assert not waiting(muxer(one, two))


async def test_who_opened_a_stream_keeps_nothing_of_it_either() -> None:
    async with pair() as (one, two):
        told = trio.Event()

        async def tell_for_ever(stream: Any) -> None:
            await stream.write(b"\x00\x00\x00\x05hello")
            told.set()
            await trio.sleep_forever()

        one._host.set_stream_handler(TProtocol("/ever/1"), tell_for_ever)
        before = set(muxer(two, one).streams)
        stream = await two.open(one.peer_id, "/ever/1")
        assert await stream.receive(10) == b"hello"
        await stream.aclose()
        assert set(muxer(two, one).streams) <= before


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
        stream = await raw_stream(two, one, "/silent/1")
        muxed, most = muxer(one, two), 0
        with suppress(BaseLibp2pError):
            for _ in range(2 * overrides.MOST_WAITING_BYTES // 60_000):
                await stream.write(bytes(60_000))
                most = max(most, waiting(muxed))
        await until(lambda: not one.peers())
        assert most <= overrides.MOST_WAITING_BYTES
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
        before = tasks()
        for _ in range(8 * overrides.MOST_STREAMS):
            await two._network.new_stream(there)
        ended = await two._network.new_stream(there)
        with trio.fail_after(SECONDS), suppress(BaseLibp2pError):
            while await ended.read(100):
                pass
        await until(lambda: len(muxer(one, two).streams) <= overrides.MOST_STREAMS + 4)  # our own and the last
        assert tasks() <= before + overrides.MOST_STREAMS
        with pytest.raises(RemoteProtocolError):
            await two.open(one.peer_id, "/greet/1")
        await alive(one)


# Why gossip/relay.py and gossip/punch.py take the messages of libp2p.relay and not its relay and hole punching.


async def test_upstream_a_relay_reserves_in_anothers_name() -> None:
    """Names are soon made, and each takes a place for an hour, though it is not even connected."""
    async with pair() as (one, two):
        upstream = CircuitV2Protocol(one._host, allow_hop=True)
        one._host.set_stream_handler(PROTOCOL_ID, upstream._handle_hop_stream)
        other = ID.from_base58(identity(9).peer_id)
        stream = await opened(two._host, one.peer_id, HOP)
        await tell(stream, pb.HopMessage(type=pb.HopMessage.RESERVE, peer=pb.PeerId(id=other.to_bytes())))
        await told(stream, pb.HopMessage)
        assert list(upstream.resource_manager._reservations) == [other]


async def test_upstream_a_silent_circuit_outlives_its_time() -> None:
    class Silent:
        async def read(self, most: int) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

    upstream = CircuitV2Protocol(new_host(key_pair=create_new_key_pair(bytes(32))))
    with trio.move_on_after(1.0) as scope:
        await upstream._relay_data(Silent(), Silent(), ID(b"peer"), deadline=time.monotonic() + 0.1)
    assert scope.cancelled_caught


async def test_upstream_a_refused_try_of_hole_punching_is_followed_by_seconds_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through NATs that answer with a reset, a try of each side must be under way at the same time."""
    tries = 0

    async def refused(*args: Any) -> None:
        nonlocal tries
        tries += 1

    upstream = DCUtRProtocol(new_host(key_pair=create_new_key_pair(bytes(32))))
    monkeypatch.setattr(upstream, "_dial_peer", refused)
    with trio.move_on_after(2.0):
        await upstream._perform_hole_punch(ID(b"peer"), [Multiaddr("/ip4/192.0.2.7/tcp/1")])
    assert tries == 1


async def test_a_refused_try_of_hole_punching_is_followed_by_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(punch, "MOST_TRIES", 20)
    here = ip_address("127.0.0.1")
    with trio.fail_after(2.0):
        nobody = punch.Spot(here, free_port())
        assert await punch.punch(punch.Spot(here, free_port()), nobody, listen=False) is None


async def test_a_burst_reaches_all() -> None:
    """Upstream queues hold 32 messages, so of 300 at once 32 arrived."""
    async with (
        open_transport(identity(1), [LOCAL]) as first,
        open_transport(identity(2), [LOCAL]) as second,
        open_transport(identity(3), [LOCAL]) as third,
        open_transport(identity(4)) as fourth,
        trio.open_nursery() as nursery,
    ):
        known = first.addresses()
        members = [
            Member(number + 1, transport, known if number else (), clock_ms=real_ms)
            for number, transport in enumerate((first, second, third, fourth))
        ]
        for member in members:
            await nursery.start(member.swarm.run)
        await until(lambda: all(len(member.swarm.presences()) == 3 for member in members), 30)
        begun = trio.current_time()
        for number in range(300):
            await members[3].swarm.publish(members[3].note(number))
        published = trio.current_time() - begun
        await until(lambda: agree(members), 40)
        delays = sorted(
            member.came[name] - members[3].came[name] for member in members[:3] for name in member.came
        )
        print(f"300 records to 3 peers: published in {published:.2f} s, the last after {delays[-1]:.2f} s")
        assert [member.rejected.total() for member in members] == [0, 0, 0, 0]
        nursery.cancel_scope.cancel()


def test_it_runs_as_a_guest_of_uvloop() -> None:
    async def meet() -> bytes:
        async def answer(stream: Stream) -> None:
            await stream.send(await stream.receive(100))

        async with pair() as (one, two):
            one.handle("/echo/1", answer)
            stream = await two.open(one.peer_id, "/echo/1")
            await stream.send(b"hello")
            answered = await stream.receive(100)
            await stream.aclose()
            return answered

    async def host() -> Any:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        trio.lowlevel.start_guest_run(
            meet,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            run_sync_soon_not_threadsafe=loop.call_soon,
            host_uses_signal_set_wakeup_fd=True,
            restrict_keyboard_interrupt_to_checkpoints=True,
            done_callback=done.set_result,
        )
        return (await done).unwrap()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(host()) == b"hello"
