"""libp2p behind the transport interface: noise and yamux over TCP, GossipSub for topics.

Runs under trio alone and as a guest of another loop. The settings that are not libp2p's own defaults say why.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from gossip.circuit import DCUTR, HOP, STOP, split
from gossip.connections import Arrivals, heard_at, host_at, is_here, relayed
from gossip.controls import SafeGossipSub
from gossip.dialing import check_announce, parse_dial, parse_listen, reachable_at, resolve, why
from gossip.endings import hang_up
from gossip.frames import Libp2pStream
from gossip.gate import Door
from gossip.overrides import (
    SafePubsub,
    bound_buffers,
    dial_nobody,
    end_inbound,
    guard_handshakes,
    guard_streams,
    keep_known,
    keep_private,
)
from gossip.reach import Reach
from gossip.relay import Relay
from gossip.transport import (
    CLOSE_SECONDS,
    INBOX,
    MAX_MESSAGE_BYTES,
    ConnectError,
    Handler,
    Inbox,
    Judge,
    Stream,
    Validator,
    accepts,
    fits,
    peer_of,
    serve,
)
from protocol.errors import LocalProtocolError, RemoteProtocolError, UserError
from protocol.identity import Identity

log = logging.getLogger(__name__)

#: A dial through a slow relay of names and a far handshake; who takes longer is not there.
DIAL_SECONDS = 10.0
#: A handshake with the relay, one through it, agreeing on a moment and hole punching.
CALL_SECONDS = 30.0
#: Two round trips; a peer that is this slow to agree on a protocol is stuck.
OPEN_SECONDS = 10.0
#: Every node forwards to so many; ``DEGREE_HIGH`` is over the number of peers that a swarm dials, since a
#: peer pruned from a mesh was measured to hear nothing at all.
DEGREE, DEGREE_LOW, DEGREE_HIGH = 8, 6, 24
HEARTBEAT_SECONDS = 1
#: After a prune; the 60 s of the default would keep a healed swarm apart.
BACK_OFF_SECONDS = 10
#: More than a node needs to be well connected, few enough for a small machine.
MAX_CONNECTIONS = 200


@asynccontextmanager
async def open_transport(
    identity: Identity,
    listen: Sequence[str] = (),
    announce: Sequence[str] = (),
    *,
    key: bytes | None = None,
    door: Door | None = None,
) -> "AsyncIterator[Libp2pTransport]":
    """A running node of the network; with nothing to ``listen`` at it only dials out, and takes full part.

    ``announce`` are further addresses at which others may dial it (behind a NAT, in a container), without
    ``/p2p/``. Only peers with the same swarm ``key`` (None is in the clear) are understood, and of those the
    ``door`` lets in whom it allows. Raises UserError where it can't listen, or announce what can't be dialed.
    What the block raises leaves it as it is, not wrapped by libp2p's nurseries.
    """
    raised = None
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # its errors are every peer that does not answer
    bound = [parse_listen(address) for address in listen]
    for address in announce:
        check_announce(address)
    door = door or Door()
    host = _host(identity, key, door)
    router = _router(door)
    pubsub = SafePubsub(host, router, door=door)
    transport = Libp2pTransport(identity.peer_id, host, pubsub, announce, door, listens=bool(bound))
    async with (
        host.run(listen_addrs=[]),
        background_trio_service(pubsub),
        background_trio_service(router),
        transport.running(),
    ):
        try:
            await pubsub.wait_until_ready()
            await _listen(host, bound)  # last: a peer that comes before pubsub is up ends it
            yield transport
        except Exception as error:  # raised again as soon as libp2p has ended
            raised = error
        finally:
            with trio.move_on_after(CLOSE_SECONDS) as scope:
                scope.shield = True
                await host.close()  # the end of ``run`` alone leaves sockets open
    if raised is not None:
        raise raised


def _router(door: Door) -> Any:
    return SafeGossipSub(
        [TProtocol("/meshsub/1.1.0")],
        DEGREE,
        DEGREE_LOW,
        DEGREE_HIGH,
        heartbeat_interval=HEARTBEAT_SECONDS,
        prune_back_off=BACK_OFF_SECONDS,
        adaptive_gossip_enabled=False,  # it may slow the heartbeat down to a minute
        spam_protection_enabled=False,  # counts by forwarder, 10 a second: it would mute a busy hub
        eclipse_protection_enabled=False,  # wants three IP addresses in a mesh; a lab has one
        door=door,
    )


def _host(identity: Identity, key: bytes | None, door: Door) -> Any:
    keys = create_new_key_pair(identity.seed)
    noise = NoiseTransport(keys, noise_privkey=create_noise_key_pair().private_key)
    host = new_host(
        key_pair=keys,
        sec_opt={NOISE: noise},  # the default also takes plaintext, where a peer may claim to be any other
        muxer_opt={TProtocol(YAMUX): Yamux},
        transports=[TCP()],
        connection_config=ConnectionConfig(
            max_connections=MAX_CONNECTIONS,
            high_watermark=MAX_CONNECTIONS,
            low_watermark=0,
            min_connections=0,
        ),
        disable_identify_address_discovery=True,
    )
    host.get_network().retry_config = RetryConfig(max_retries=0)  # when to try again is the address book's to say
    guard_streams(host, door)
    bound_buffers(host.get_network(), door)
    guard_handshakes(host.get_network(), door)
    keep_private(host.get_network(), key, door)
    end_inbound(host.get_network(), door)
    dial_nobody(host.get_network())
    keep_known(host.get_network())
    return host


async def _listen(host: Any, bound: Sequence[Multiaddr]) -> None:
    for address in bound:
        if not await host.get_network().listen(address):
            raise UserError(f"cannot listen at {address}")


class Libp2pTransport:
    """``Transport`` over a libp2p host; made by ``open_transport``."""

    def __init__(
        self, peer_id: str, host: Any, pubsub: SafePubsub, announce: Sequence[str], door: Door, *, listens: bool
    ) -> None:
        self._peer_id = peer_id
        self._host = host
        self._network = host.get_network()
        self._pubsub = pubsub
        self._announce = list(announce)
        self._door = door
        self._dialed: dict[str, str] = {}
        self._dialing: dict[str, trio.Event] = {}  # set when that dial has ended
        self._arrived, self._arrivals = trio.open_memory_channel[str](INBOX)
        self._network.register_notifee(Arrivals(self._arrived, self._forget_dialed))
        self._relay = Relay(host, door)
        self._reach = Reach(host, door, self.peer_address, listens=listens, announces=bool(announce))
        if listens:
            self._serve_calls(HOP, self._relay.serve)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Until the end: channels are closed then, so that their readers end too."""
        async with trio.open_nursery() as nursery:

            def welcome(connection: Any) -> None:
                nursery.start_soon(self._welcome, connection)

            self._serve_calls(STOP, partial(self._reach.answer_call, then=welcome))
            self._serve_calls(DCUTR, self._reach.answer_punch)
            nursery.start_soon(self._reach.hold)
            try:
                yield
            finally:
                self._arrived.close()
                nursery.cancel_scope.cancel()

    async def _welcome(self, connection: Any) -> None:
        """What came through a hole, until its end."""
        with suppress(BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await self._network.upgrade_inbound_raw_conn(connection, Multiaddr("/ip4/0.0.0.0"))

    @property
    def peer_id(self) -> str:
        return self._peer_id

    def addresses(self) -> list[str]:
        bound = self._host.get_transport_addrs()
        direct = [*self._announce, *(address for one in bound for address in reachable_at(one))]
        found = [*direct[:1], *self._reach.addresses(), *direct[1:]]  # peers try the first few
        named = (f"{address}/p2p/{self._peer_id}" for address in dict.fromkeys(found))
        return list(filter(fits, named))

    def peers(self) -> list[str]:
        connections = self._network.get_connections_map()
        return [str(peer) for peer, some in connections.items() if any(map(is_here, some))]

    def peer_address(self, peer: str) -> str | None:
        return self._dialed.get(peer) if peer in self.peers() else None

    def heard(self, peer: str) -> float:
        some = self._network.get_connections_map().get(ID.from_base58(peer), [])
        return max((heard_at(one.muxed_conn) for one in some), default=0.0)

    def host(self, peer: str) -> str:
        some = self._network.get_connections_map().get(ID.from_base58(peer), [])
        return next((host_at(one.muxed_conn) for one in some if not one.is_closed), "")

    def arrivals(self) -> trio.MemoryReceiveChannel[str]:
        return self._arrivals

    async def connect(self, address: str) -> str:
        peer = peer_of(address)
        if peer == self._peer_id:
            raise ConnectError(f"{address}: that is this node's own address")
        if not self._door.allows(peer):
            raise ConnectError(f"{address}: it is not among the peers that are allowed here: --allow {peer}")
        if peer not in self.peers():
            await self._reach_out(peer, address)
        return peer

    async def _reach_out(self, peer: str, address: str) -> None:
        """One dial of a peer at a time: of two, each would take where the other's connection was dialed for its own.
        Who comes second has another address, maybe the right one.
        """
        targets, (relay, _) = parse_dial(address), split(address)
        while peer in self._dialing:
            await self._dialing[peer].wait()
        if peer in self.peers():
            return
        ended = self._dialing[peer] = trio.Event()
        self._dialed[peer] = address  # before its arrival is told
        limit = CALL_SECONDS if relay else DIAL_SECONDS
        try:
            with trio.fail_after(limit):
                await (self._call(address, relay) if relay else self._dial(await resolve(targets)))
        except trio.TooSlowError:
            raise ConnectError(f"{address}: cannot reach it within {limit:g} seconds") from None
        except (BaseLibp2pError, OSError) as error:
            raise ConnectError(f"{address}: cannot reach it: {why(error)}") from None
        finally:
            del self._dialing[peer]
            ended.set()
            self._forget_dialed(peer)

    def _forget_dialed(self, peer: str) -> None:
        """Where we dialed a peer, unless it is here or is being dialed again."""
        if peer not in self._dialing and peer not in self.peers():
            self._dialed.pop(peer, None)

    async def _call(self, address: str, relay: str) -> None:
        there = peer_of(relay)
        if there in self._dialing and split(self._dialed[there])[0]:  # by a call, which may wait for this one
            raise ConnectError(f"{address}: its relay is being called itself")
        await self.connect(relay)
        await self._reach.dial(address)

    async def _dial(self, addresses: Sequence[Multiaddr]) -> None:
        """Try one after the other; raises what the last raised."""
        for number, address in enumerate(addresses, 1):
            info = info_from_p2p_addr(address)
            self._network.unblock_peer(info.peer_id)  # a dial that failed bars the peer for a minute
            self._network.peerstore.clear_addrs(info.peer_id)  # it would dial another address that it knows
            for one in list(self._network.get_connections(info.peer_id)):
                if one.is_closed:
                    self._network.remove_conn(one)  # it would take it for one that is here
            try:
                await self._host.connect(info)
            except BaseLibp2pError:
                if number == len(addresses):
                    raise
            else:
                return

    async def disconnect(self, peer: str) -> None:
        """What is here now: who comes again at once is met again."""
        async with trio.open_nursery() as nursery:
            for connection in list(self._network.get_connections(ID.from_base58(peer))):
                nursery.start_soon(hang_up, connection)

    async def subscribe(self, topic: str, validator: Validator) -> Inbox:
        if topic in self._pubsub.topic_validators:
            raise LocalProtocolError(f"already subscribed to {topic}")
        send, receive = trio.open_memory_channel[tuple[str, bytes]](INBOX)
        check = _checker(self._host.get_id(), validator, self._door, send)
        self._pubsub.set_topic_validator(topic, check, is_async_validator=False)
        await self._pubsub.subscribe(topic)
        return receive

    def mesh(self, topic: str) -> int:
        return len(self._pubsub.router.mesh.get(topic, ()))

    async def publish(self, topic: str, data: bytes) -> None:
        if len(data) > MAX_MESSAGE_BYTES:
            raise LocalProtocolError(f"a message of {len(data)} bytes, at most {MAX_MESSAGE_BYTES}")
        await self._pubsub.publish(topic, data)

    def judged_by(self, judge: Judge) -> None:
        self._door.judge = judge

    def relay_for(self, admits: Callable[[str], bool]) -> None:
        self._relay.admits = admits

    def handle(self, protocol: str, handler: Handler) -> None:
        async def serve_one(stream: Any) -> None:
            if relayed(stream.muxed_conn):  # a circuit is there to find a direct way
                await stream.reset()
            else:
                await serve(handler, Libp2pStream(stream), self._door.judge)

        self._host.set_stream_handler(TProtocol(protocol), serve_one)

    def _serve_calls(self, protocol: str, act: Callable[[Any], Awaitable[None]]) -> None:
        async def serve_one(stream: Any) -> None:
            try:
                await act(stream)
            except RemoteProtocolError as error:
                self._door.refuse_words(str(stream.muxed_conn.peer_id), error.reason)
                raise

        self._host.set_stream_handler(TProtocol(protocol), serve_one)

    async def open(self, peer: str, protocol: str) -> Stream:
        if peer not in self.peers():
            raise RemoteProtocolError("stream", f"not connected to {peer}")
        try:
            with trio.fail_after(OPEN_SECONDS):
                stream = await self._host.new_stream(ID.from_base58(peer), [TProtocol(protocol)])
        except (BaseLibp2pError, OSError, trio.TooSlowError) as error:
            raise RemoteProtocolError("stream", f"{peer} does not open {protocol}: {error}") from None
        return Libp2pStream(stream)


def _checker(
    me: Any, validator: Validator, door: Door, inbox: trio.MemorySendChannel[tuple[str, bytes]]
) -> Callable[[Any, Any], bool]:
    """libp2p's validator, which delivers too: it is asked once for each new message that is well signed."""

    def check(forwarder: Any, message: Any) -> bool:
        if forwarder == me:
            return True
        if not accepts(validator, str(forwarder), message.data, door.judge):
            return False
        with suppress(trio.WouldBlock, trio.BrokenResourceError):
            inbox.send_nowait((str(forwarder), message.data))
        return True

    return check
