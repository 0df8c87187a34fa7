"""An in-memory network for tests and simulations: seeded, on whatever clock trio runs.

Gossip floods over connections, hop by hop, each hop after a drawn latency and with a chance of loss. Streams
are in order and lossless, as TCP is, until a partition or a death breaks them.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from math import log as ln

import trio

from gossip.seen import Seen
from gossip.transport import (
    INBOX,
    ConnectError,
    Handler,
    Inbox,
    Judge,
    Lenient,
    Stream,
    Validator,
    accepts,
    peer_of,
    serve,
)
from protocol.errors import LocalProtocolError, RemoteProtocolError

Latency = Callable[[random.Random], float]
#: Frames on their way on one stream before ``send`` waits for the reader.
WINDOW = 16
#: Messages that a node remembers so as not to forward them twice.
REMEMBERED = 65536
#: A channel that nobody empties, now or any more.
UNREAD = (trio.WouldBlock, trio.BrokenResourceError)
#: As long as a dial that nobody answers takes.
DIAL_SECONDS = 5.0
#: Where all nodes of a simulated world are.
HOST = "192.0.2.1"


def internet(rng: random.Random) -> float:
    """One-way seconds between strangers: median 40 ms, one in 40 over 100 ms."""
    return rng.lognormvariate(ln(0.04), 0.45)


class MemoryNetwork:
    """All transports of a simulated world. ``loss`` is the chance that one hop of one message is lost.

    ``messages`` counts hops tried, ``frames`` and ``frame_bytes`` what went over streams.
    """

    def __init__(self, seed: int = 0, latency: Latency = internet, loss: float = 0.0) -> None:
        self._rng = random.Random(seed)
        self._latency = latency
        self.loss = loss
        self._nodes: dict[str, MemoryTransport] = {}
        self._group: dict[str, int] = {}
        self._pending: list[tuple[float, int, tuple[str, str, str, bytes]]] = []
        self._order = itertools.count()
        self._running = False
        self.messages = 0
        self.frames = 0
        self.frame_bytes = 0

    def transport(self, peer_id: str, *, listens: bool = True) -> "MemoryTransport":
        """A node of this world; one of the same name that was there before is dead from now on."""
        self.kill(peer_id)
        node = MemoryTransport(self, peer_id, listens)
        self._nodes[peer_id] = node
        return node

    def partition(self, groups: Collection[Collection[str]]) -> None:
        """Cut all connections between groups; peers in none of them make up one more."""
        self._group = {peer: number for number, group in enumerate(groups) for peer in group}
        for one in list(self._nodes.values()):
            for peer in one.peers():
                if not self.reachable(one.peer_id, peer):
                    self.cut(one.peer_id, peer)

    def heal(self) -> None:
        """Let groups reach each other again; connections come back when somebody dials."""
        self._group = {}

    def kill(self, peer_id: str) -> None:
        """End a node as kill -9 would: nothing more comes from it, its connections break."""
        node = self._nodes.pop(peer_id, None)
        if node is not None:
            for peer in node.peers():
                self.cut(peer_id, peer)
            node.dead = True

    # for transports

    def find(self, peer_id: str) -> "MemoryTransport | None":
        return self._nodes.get(peer_id)

    def reachable(self, one: str, other: str) -> bool:
        return self._group.get(one) == self._group.get(other)

    def cut(self, one: str, other: str) -> None:
        for here, there in ((one, other), (other, one)):
            node = self._nodes.get(here)
            if node is not None:
                node.lose(there)

    def draw_latency(self) -> float:
        return self._latency(self._rng)

    def send(self, sender: str, receivers: Iterable[str], topic: str, data: bytes) -> None:
        """One hop of one message, to each of the receivers."""
        now = trio.current_time()
        for receiver in receivers:
            self.messages += 1
            due = now + self.draw_latency()
            if self._rng.random() >= self.loss:
                heapq.heappush(self._pending, (due, next(self._order), (sender, receiver, topic, data)))
        if self._pending and not self._running:
            self._running = True
            # No nursery spans a network; a task of the whole run does, and no delivery raises.
            trio.lowlevel.spawn_system_task(self._deliver)

    async def _deliver(self) -> None:
        try:
            while self._pending:
                await trio.sleep_until(self._pending[0][0])
                now = trio.current_time()
                while self._pending and self._pending[0][0] <= now:
                    self._arrive(*heapq.heappop(self._pending)[2])
        finally:
            self._running = False

    def _arrive(self, sender: str, receiver: str, topic: str, data: bytes) -> None:
        node = self._nodes.get(receiver)
        if node is not None and node.connected(sender):
            node.take(sender, topic, data)


@dataclass
class _Topic:
    validator: Validator
    inbox: trio.MemorySendChannel[tuple[str, bytes]]


class MemoryTransport:
    """One simulated node's ``Transport``."""

    def __init__(self, network: MemoryNetwork, peer_id: str, listens: bool) -> None:
        self._network = network
        self._peer_id = peer_id
        self._listens = listens
        self._peers: dict[str, str | None] = {}
        self._heard: dict[str, float] = {}
        self._topics: dict[str, _Topic] = {}
        self._handlers: dict[str, Handler] = {}
        self._streams: dict[str, list[MemoryStream]] = {}
        self._seen = Seen[tuple[str, bytes]](REMEMBERED)
        self._arrived, self._arrivals = trio.open_memory_channel[str](INBOX)
        self.judge: Judge = Lenient()
        self.dead = False

    @property
    def peer_id(self) -> str:
        return self._peer_id

    def addresses(self) -> list[str]:
        return [f"/memory/0/p2p/{self._peer_id}"] if self._listens else []

    def peers(self) -> list[str]:
        return list(self._peers)

    def peer_address(self, peer: str) -> str | None:
        return self._peers.get(peer)

    def heard(self, peer: str) -> float:
        return self._heard.get(peer, 0.0)

    def host(self, peer: str) -> str:
        return HOST if peer in self._peers else ""

    def mesh(self, topic: str) -> int:
        return len(self._peers) if topic in self._topics else 0

    def arrivals(self) -> trio.MemoryReceiveChannel[str]:
        return self._arrivals

    async def connect(self, address: str) -> str:
        peer = peer_of(address)
        if peer == self._peer_id:
            raise ConnectError(f"{address}: that is this node's own address")
        await trio.sleep(2 * self._network.draw_latency())
        other = self._network.find(peer)
        if other is None or self.dead or not other.addresses() or other.judge.shuts_out(HOST):
            raise ConnectError(f"{address}: cannot reach it: connection refused")
        if not self._network.reachable(self._peer_id, peer):
            await trio.sleep(DIAL_SECONDS)
            raise ConnectError(f"{address}: cannot reach it within {DIAL_SECONDS:g} seconds")
        self._meet(peer, address)
        other._meet(self._peer_id, None)
        return peer

    async def disconnect(self, peer: str) -> None:
        self._network.cut(self._peer_id, peer)
        await trio.lowlevel.checkpoint()

    async def subscribe(self, topic: str, validator: Validator) -> Inbox:
        if topic in self._topics:
            raise LocalProtocolError(f"already subscribed to {topic}")
        send, receive = trio.open_memory_channel[tuple[str, bytes]](INBOX)
        self._topics[topic] = _Topic(validator, send)
        await trio.lowlevel.checkpoint()
        return receive

    async def publish(self, topic: str, data: bytes) -> None:
        self._seen.add((topic, data))
        self._forward(topic, data, but=self._peer_id)
        await trio.lowlevel.checkpoint()

    def judged_by(self, judge: Judge) -> None:
        self.judge = judge

    def relay_for(self, admits: Callable[[str], bool]) -> None:
        """Nothing: who listens is reached by all here."""

    def handle(self, protocol: str, handler: Handler) -> None:
        self._handlers[protocol] = handler

    async def open(self, peer: str, protocol: str) -> Stream:
        await trio.sleep(self._network.draw_latency())
        other = self._network.find(peer)
        handler = None if other is None else other._handlers.get(protocol)
        if other is None or peer not in self._peers:
            raise RemoteProtocolError("stream", f"not connected to {peer}")
        if handler is None:
            raise RemoteProtocolError("stream", f"{peer} does not speak {protocol}")
        mine, theirs = _pair(self, other)
        self._keep(mine)
        other._keep(theirs)
        trio.lowlevel.spawn_system_task(serve, handler, theirs, other.judge)
        return mine

    # for the network

    def connected(self, peer: str) -> bool:
        return peer in self._peers

    def lose(self, peer: str) -> None:
        self._peers.pop(peer, None)
        self._heard.pop(peer, None)
        for stream in self._streams.pop(peer, []):
            stream.break_off()

    def hear(self, peer: str) -> None:
        """Something has come."""
        self._heard[peer] = trio.current_time()

    def _keep(self, stream: "MemoryStream") -> None:
        live = [one for one in self._streams.get(stream.peer, []) if not one.closed]
        self._streams[stream.peer] = [*live, stream]

    def take(self, forwarder: str, topic: str, data: bytes) -> None:
        """A message has come: validate, deliver and forward it, once."""
        self.hear(forwarder)
        ours = self._topics.get(topic)
        if ours is None or not self.judge.hears(forwarder) or (topic, data) in self._seen:
            return
        if not accepts(ours.validator, forwarder, data, self.judge):
            return  # by another it may be accepted
        self._seen.add((topic, data))
        with suppress(*UNREAD):  # sync brings what did not fit
            ours.inbox.send_nowait((forwarder, data))
        self._forward(topic, data, but=forwarder)

    def _forward(self, topic: str, data: bytes, but: str) -> None:
        self._network.send(self._peer_id, [peer for peer in self._peers if peer != but], topic, data)

    def _meet(self, peer: str, address: str | None) -> None:
        new = peer not in self._peers
        self._peers[peer] = address or self._peers.get(peer)
        self.hear(peer)
        if new:
            with suppress(*UNREAD):
                self._arrived.send_nowait(peer)


@dataclass(eq=False)
class MemoryStream:
    """One end of a stream; frames wait at the reader's end until they are due."""

    peer: str
    _reader: MemoryTransport
    _network: MemoryNetwork
    _outbox: trio.MemorySendChannel[tuple[float, bytes]]
    _inbox: trio.MemoryReceiveChannel[tuple[float, bytes]]
    _last_due: float = field(default=0.0)
    closed: bool = field(default=False)

    async def send(self, frame: bytes) -> None:
        self._network.frames += 1
        self._network.frame_bytes += len(frame)
        due = trio.current_time() + self._network.draw_latency()
        self._last_due = max(self._last_due, due)
        try:
            await self._outbox.send((self._last_due, frame))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise RemoteProtocolError("stream", "closed by the peer") from None

    async def receive(self, max_bytes: int) -> bytes:
        try:
            due, frame = await self._inbox.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise RemoteProtocolError("stream", "closed by the peer") from None
        await trio.sleep_until(due)
        self._reader.hear(self.peer)
        if len(frame) > max_bytes:
            raise RemoteProtocolError("oversize", f"a frame of {len(frame)} bytes, at most {max_bytes}")
        return frame

    async def aclose(self) -> None:
        self.break_off()
        await trio.lowlevel.checkpoint()

    def break_off(self) -> None:
        """Both directions are over; frames on their way to the peer still arrive."""
        self.closed = True
        self._outbox.close()
        self._inbox.close()


def _pair(one: MemoryTransport, other: MemoryTransport) -> tuple[MemoryStream, MemoryStream]:
    there_send, there_receive = trio.open_memory_channel[tuple[float, bytes]](WINDOW)
    back_send, back_receive = trio.open_memory_channel[tuple[float, bytes]](WINDOW)
    mine = MemoryStream(other.peer_id, one, one._network, there_send, back_receive)
    theirs = MemoryStream(one.peer_id, other, other._network, back_send, there_receive)
    return mine, theirs
