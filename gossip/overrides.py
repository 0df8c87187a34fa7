"""Mends of py-libp2p 0.8.1, all of them, each with the trouble it is for. pyproject.toml pins that version;
on another one read this file against the new source first (tests/gossip/test_traps.py says what must hold).
"""

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError, ParseError
from libp2p.io.exceptions import IOException, MessageTooLarge
from libp2p.network.exceptions import SwarmException
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError, MultiselectError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.pubsub import mcache, pubsub
from libp2p.pubsub.validators import signature_validator
from libp2p.stream_muxer.yamux import yamux
from libp2p.transport.exceptions import MuxerUpgradeFailure, SecurityUpgradeFailure
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from gossip.connections import host_of, place_of, relayed
from gossip.controls import check_envelope
from gossip.endings import end_at_once, forget
from gossip.faults import WRONG, GarbledError, is_wrong
from gossip.gate import Door
from gossip.private import CheckedConnection
from protocol.errors import RemoteProtocolError

log = logging.getLogger(__name__)

#: A word in the choice of a protocol: the name of one is some tens of bytes.
MOST_WORD_BYTES = 1024
#: Streams that one peer has open here at a time, from its first word on; a node opens a handful, and each may hold a
#: frame in memory.
MOST_STREAMS = 32
#: What the window of a stream grows to. 16 MiB upstream: a few streams of each peer would fill any memory.
WINDOW_BYTES = 1024 * 1024
#: What waits to be read on all streams of one connection together. Who keeps to the windows would have to fill four
#: streams that nobody reads, and ours are read as long as they are open.
MOST_WAITING_BYTES = 4 * WINDOW_BYTES
#: The same of all connections together: what a small machine can spare, and far more than honest peers send that are
#: read.
MOST_WAITING_OF_ALL = 64 * MOST_WAITING_BYTES

Deliver = Callable[[Any, Any], bool]


def message_id(message: Any) -> bytes:
    """By content, so that one record by several publishers, or again after a restart, is one message."""
    topics = "\0".join(message.topicIDs).encode()
    return hashlib.sha256(topics + b"\0" + message.data).digest()


#: Upstream: IHAVE names a message by sender and number whatever its id is, so that all is asked for and sent again.
mcache.default_msg_id_fn = message_id


class SafePubsub(pubsub.Pubsub):  # type: ignore[misc]  # libp2p has no usable types
    """Pubsub that no peer can end, and that loses less.

    Upstream: ``counter`` starts at whole seconds, so a node that published faster than one message a second
    repeats its sequence numbers after a restart, and peers drop them as seen or as equivocation. And what a validator
    said of a message by one peer holds for all: who is not heard any more silences whatever it passes on first.
    """

    def __init__(self, *args: Any, door: Door, **kwargs: Any) -> None:
        super().__init__(*args, msg_id_constructor=message_id, validation_cache_ttl=-1, **kwargs)
        self.counter = time.time_ns()
        self._door = door

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        """Upstream: a message with a malformed sender or key raises in a task of the service and ends the
        host. Signatures are looked at first, of whoever sends however much; and a message of ten thousand topics is
        validated, kept and offered as often.
        """
        if msg_forwarder != self.my_id and not self._door.judge.hears(str(msg_forwarder)):
            return
        try:
            check_envelope(msg)
            await super().push_msg(msg_forwarder, msg)
        except RemoteProtocolError as error:
            self._door.judge.reject(error, str(msg_forwarder))
        except Exception as error:
            if msg_forwarder == self.my_id:
                raise
            log.info("a message by %s failed: %r", msg_forwarder, error)

    async def stream_handler(self, stream: Any) -> None:
        """Upstream: bytes that are no protobuf raise through the connection's nursery and end the host. And it hears
        whatever connection a peer gossips through, circuits among them.
        """
        if relayed(stream.muxed_conn):
            await stream.reset()
            return
        try:
            await super().stream_handler(stream)
        except Exception as error:
            peer = stream.muxed_conn.peer_id
            log.info("the gossip stream by %s failed: %r", peer, error)
            await stream.reset()
            self._handle_dead_peer(peer)

    async def continuously_read_stream(self, stream: Any) -> None:
        """Upstream: what is no protobuf, or is too large, is noted in the log alone."""
        try:
            await super().continuously_read_stream(stream)
        except WRONG as error:
            self._door.judge.reject(RemoteProtocolError("malformed", repr(error)), str(stream.muxed_conn.peer_id))
            raise

    def notify_subscriptions(self, publish_message: Any) -> None:
        """Nothing: the validator has delivered it.

        Upstream: a queue of 32 messages for each topic, beyond which they are dropped.
        """

    async def _handle_new_peer(self, peer_id: Any) -> None:
        """Upstream: whatever connection is first is gossiped through, though it be a circuit that is hung up in seconds
        and may carry little.
        """
        some = self.host.get_network().get_connections(peer_id)
        if some and all(relayed(one.muxed_conn) for one in some):
            return
        await super()._handle_new_peer(peer_id)


async def _read_rpc(reader: Any, most: int) -> bytes:
    try:
        return bytes(await read_varint_prefixed_bytes_limited(reader, most))
    except MessageTooLarge as error:
        raise ParseError(str(error)) from None


def _verify(message: Any) -> bool:
    """Raises RemoteProtocolError for a signature that does not verify, or cannot. Upstream: a line in the log."""
    try:
        verified = signature_validator(message)
    except Exception as error:  # the boundary of what a sender and his key may be
        raise RemoteProtocolError("malformed", f"a sender or key: {error!r}") from error
    if not verified:
        raise RemoteProtocolError("signature", "a gossip message")
    return True


#: Both are taken by name there.
pubsub.read_varint_prefixed_bytes_limited = _read_rpc
pubsub.signature_validator = _verify


def guard_streams(host: Any, door: Door) -> None:
    """Let no stream handler raise, no peer have more streams than it needs, and none be kept that is served.

    Upstream: an exception in one, ours or its own (a peer that garbles the choice of a protocol), goes
    through the connection's nursery and ends the host. And whoever opens streams has a task for each, without end.
    """
    original, negotiate = host._swarm_stream_handler, host.multiselect.negotiate
    serving: Counter[Any] = Counter()

    async def negotiate_and_tell(communicator: Any, *limit: Any) -> Any:
        try:
            return await negotiate(communicator, *limit)
        except MultiselectError as error:
            if isinstance(error.__cause__, GarbledError):
                peer = str(communicator.read_writer.muxed_conn.peer_id)
                door.judge.reject(RemoteProtocolError("malformed", "the choice of a protocol"), peer)
            raise

    async def handle(stream: Any) -> None:
        peer = stream.muxed_conn.peer_id
        serving[peer] += 1
        try:
            if serving[peer] > MOST_STREAMS:
                door.judge.reject(RemoteProtocolError("crowd", f"more than {MOST_STREAMS} streams"), str(peer))
                await stream.reset()
            else:
                await original(stream)
        except Exception as error:
            log.info("a stream by %s failed: %r", peer, error)
            await stream.reset()
        finally:
            serving[peer] -= 1
            if not serving[peer]:
                del serving[peer]
            await forget(stream)

    host.multiselect.negotiate = negotiate_and_tell
    host.get_network().set_stream_handler(handle)


#: Both what windows grow to and what a frame may have.
yamux.MAX_WINDOW_SIZE = WINDOW_BYTES


class _Buffers:
    """What waits to be read on the connections of a node, and is bounded of each and of all together."""

    def __init__(self, network: Any, door: Door) -> None:
        self._network = network
        self._door = door
        self._left = MOST_WAITING_OF_ALL  # that may come before all are looked at again
        self._coming: Counter[Any] = Counter()  # of each connection, in the frame that is being read

    async def read(self, muxed: Any, read: Callable[[int], Awaitable[Any]], length: int) -> Any:
        """A frame. Raises TooSlowError, the one error that ends the connection."""
        self._coming[muxed] = length
        try:
            if self._waits(muxed) > MOST_WAITING_BYTES:
                self._reject("oversize", "more than its windows allow", muxed)
                raise trio.TooSlowError
            self._left -= length
            if self._left < 0 and muxed in await self._make_room():
                raise trio.TooSlowError
            return await read(length)
        finally:
            del self._coming[muxed]

    async def _make_room(self) -> set[Any]:
        """Hang up on those that hold most; these."""
        connections = (connection.muxed_conn for connection in self._network.get_connections())
        here = {muxed: self._waits(muxed) for muxed in {*self._coming, *connections}}
        ended = set()
        while sum(here.values()) > MOST_WAITING_OF_ALL:
            most = max(here, key=here.__getitem__)
            del here[most]
            ended.add(most)
            self._reject("quota", "the most of all that waits", most)
            await end_at_once(most)
        self._left = max(MOST_WAITING_OF_ALL - sum(here.values()), WINDOW_BYTES)
        return ended

    def _waits(self, muxed: Any) -> int:
        return sum(map(len, muxed.stream_buffers.values())) + self._coming[muxed]

    def _reject(self, reason: str, wrong: str, muxed: Any) -> None:
        self._door.judge.reject(RemoteProtocolError(reason, wrong), str(muxed.peer_id))


def bound_buffers(network: Any, door: Door) -> None:
    """Hang up on who sends far more than its windows allow, and on who holds most where all together send too much.

    Upstream: that is noted in the log, and kept.
    """
    agree_on_muxer, buffers = network.upgrader.upgrade_connection, _Buffers(network, door)

    async def upgrade_connection(connection: Any, peer_id: Any) -> Any:
        muxed = await agree_on_muxer(connection, peer_id)
        muxed._read_data_body = partial(buffers.read, muxed, muxed._read_data_body)
        return muxed

    network.upgrader.upgrade_connection = upgrade_connection


async def _read_word(self: Any) -> str:
    """Upstream: what is no UTF-8 raises a ValueError, which nobody expects who opens a stream or dials, so a peer that
    we dialed ends the host with four bytes. And a word is as long as the peer says.
    """
    try:
        data = await read_varint_prefixed_bytes_limited(self.read_writer, MOST_WORD_BYTES)
        if not data.endswith(b"\n"):
            raise ParseError("a word without its end")
        word: str = data[:-1].decode()
    except (ParseError, MessageTooLarge, UnicodeDecodeError) as error:
        raise GarbledError("no word") from error
    except IOException as error:
        raise MultiselectCommunicatorError("fail to read from multiselect communicator") from error
    return word


#: It is made in many places, by name: where protocols of streams, of security and of muxers are chosen.
MultiselectCommunicator.read = _read_word


def guard_handshakes(network: Any, door: Door) -> None:
    """Let a handshake fail in no way but libp2p's own, and tell of those that a caller garbles.

    Upstream: what a peer garbles in one raises errors of noise, of protobuf and of the ciphers. A dial takes them for
    a failure; who makes a connection of a circuit, or of what came through a hole, ends with them.
    """
    secure, agree_on_muxer = network.upgrader.upgrade_security, network.upgrader.upgrade_connection

    async def upgrade_security(raw: Any, is_initiator: bool, peer_id: Any = None) -> Any:
        try:
            return await secure(raw, is_initiator, peer_id)
        except Exception as error:
            if not is_initiator and is_wrong(error):
                door.judge.reject(RemoteProtocolError("malformed", "a handshake"), "", place_of(raw))
            if isinstance(error, BaseLibp2pError | OSError):
                raise
            log.info("a handshake failed: %r", error)
            raise SecurityUpgradeFailure("the handshake was garbled") from error

    async def upgrade_connection(connection: Any, peer_id: Any) -> Any:
        try:
            return await agree_on_muxer(connection, peer_id)
        except Exception as error:
            if is_wrong(error):
                door.judge.reject(RemoteProtocolError("malformed", "the choice of a muxer"), str(peer_id))
            if isinstance(error, BaseLibp2pError | OSError):
                raise
            log.info("agreeing on a muxer with %s failed: %r", peer_id, error)
            raise SwarmException("the choice of a muxer was garbled") from error

    network.upgrader.upgrade_security = upgrade_security
    network.upgrader.upgrade_connection = upgrade_connection


def dial_nobody(network: Any) -> None:
    """Leave it to us whom to dial.

    Upstream: every 30 s, and after each disconnect, it dials peers that it knows until it has half of
    ``high_watermark``; no setting turns that off.
    """

    async def maybe_connect() -> None: ...

    network.auto_connector.maybe_connect = maybe_connect


def keep_known(network: Any) -> None:
    """Forget no peer that is connected, and not ourselves.

    Upstream: with every address that it learns, and every five minutes, it forgets peers beyond 1,000, those
    without an address first; that is the node itself, which can then sign no message and ends. A thousand
    identities are soon made.
    """
    store = network.peerstore

    def clean_up() -> None:
        kept = {network.get_peer_id(), *network.get_connections_map()}
        others = [(peer, known) for peer, known in store.peer_data_map.items() if peer not in kept]
        over = len(store.peer_data_map) - store.max_peers
        for number, (peer, known) in enumerate(others):  # the oldest first
            if number < over or known.is_expired():
                del store.peer_data_map[peer]
                store.peer_record_map.pop(peer, None)

    store._cleanup_expired_records = clean_up
    store._enforce_peer_limit = clean_up


def end_inbound(network: Any, door: Door) -> None:
    """Let the task of an inbound connection end with the connection, and take so many of one host alone.

    Upstream: it waits for the end of the host, so each inbound connection leaks a task and a token of the
    limiter of inbound connections, and after 300 of them the node accepts no more until it restarts. What comes
    through a circuit comes through no listener and is not to wait: who answers a call goes on and hangs up.
    """
    original = network.upgrade_inbound_raw_conn

    async def upgrade_and_wait(raw: Any, address: Any) -> Any:
        with door.entered(place_of(raw)) as entered:
            if not entered:
                await raw.close()
                raise SwarmException("too many connections of one host")
            muxed = await original(raw, address)
            if relayed(muxed):
                return muxed
            for connection in network.get_connections(muxed.peer_id):
                if connection.muxed_conn is muxed:
                    await connection.event_closed.wait()
        raise SwarmException("the connection has ended")

    network.upgrade_inbound_raw_conn = upgrade_and_wait


def keep_private(network: Any, key: bytes | None, door: Door) -> None:
    """Let connections begin under the swarm's key, and end after the handshake where the peer is not let in.

    Upstream: see gossip/private.py on ``psk``. For peers there are a deny list of IP addresses and nothing else;
    one refused when it is connected takes itself for connected, so it is refused before a muxer is agreed on.
    Call it before ``end_inbound``.
    """
    inbound, outbound = network.upgrade_inbound_raw_conn, network.upgrade_outbound_raw_conn
    agree_on_muxer = network.upgrader.upgrade_connection

    async def upgrade_inbound(raw: Any, address: Any) -> Any:
        checked, host = CheckedConnection(raw, key), host_of(raw)
        try:
            return await inbound(checked, address)
        except Exception:
            if checked.mismatch is not None:
                door.refuse_key(host or "somebody", str(checked.mismatch), private=key is not None)
            raise

    async def upgrade_outbound(raw: Any, peer_id: Any, pre_scope: Any = None) -> Any:
        return await outbound(CheckedConnection(raw, key), peer_id, pre_scope)

    async def agree_with_admitted(connection: Any, peer_id: Any) -> Any:
        if not door.admit(str(peer_id)):
            raise MuxerUpgradeFailure("not let in")
        return await agree_on_muxer(connection, peer_id)

    network.upgrade_inbound_raw_conn = upgrade_inbound
    network.upgrade_outbound_raw_conn = upgrade_outbound
    network.upgrader.upgrade_connection = agree_with_admitted
