"""Being a relay: short circuits between two peers of the swarm that cannot dial each other.

A circuit is there for two peers to find a direct way (gossip/reach.py), not to live on: what they have to say to each
other goes through gossip and sync of the node in the middle as well. So its bounds are tight.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb

from gossip.circuit import ANSWER_SECONDS, STOP, end, opened, tell, told
from gossip.connections import is_here, relayed
from gossip.gate import Door
from protocol.errors import RemoteProtocolError

#: Peers that may be called through us, each an entry in a table: half of all connections that a node has.
MOST_RESERVATIONS = 100
#: Until it is to be asked for again; one ends with its connection anyhow.
RESERVATION_SECONDS = 3600
#: At a time: two streams and two tasks each.
MOST_CIRCUITS = 16
#: Of them, with one peer at either end: a node makes one call at a time for each worker that dials.
CIRCUITS_OF_A_PEER = 4
#: Two handshakes, twice identify and three messages take some 10 KiB; the rest is for keys and records of addresses
#: that are larger than ours.
CIRCUIT_BYTES = 128 * 1024
#: A handshake and hole punching, each on a slow line.
CIRCUIT_SECONDS = 40
#: What is passed on at once.
PIECE = 16 * 1024

Admits = Callable[[str], bool]


def nobody(peer: str) -> bool:
    return False


class Relay:
    """Serves ``HOP`` for peers that ``admits`` says are of the swarm; until that is set, for nobody."""

    def __init__(self, host: Any, door: Door) -> None:
        self.admits: Admits = nobody
        self._host = host
        self._network = host.get_network()
        self._door = door
        self._reserved: dict[str, float] = {}
        self._circuits: Counter[str] = Counter()
        self._open = 0

    @property
    def reservations(self) -> list[str]:
        """The peers that hold one."""
        now = trio.current_time()
        self._reserved = {
            peer: until for peer, until in self._reserved.items() if until > now and self._connected(peer)
        }
        return list(self._reserved)

    async def serve(self, stream: Any) -> None:
        """One question of a peer. Raises RemoteProtocolError."""
        peer = str(stream.muxed_conn.peer_id)
        try:
            asked = await told(stream, pb.HopMessage)
            if relayed(stream.muxed_conn):
                await self._refuse(stream, pb.PERMISSION_DENIED, peer, "it asked through a circuit")
            elif asked.type == pb.HopMessage.RESERVE:
                await self._reserve(stream, peer)
            elif asked.type == pb.HopMessage.CONNECT:
                await self._connect(stream, peer, str(ID(asked.peer.id)))
            else:
                await self._refuse(stream, pb.UNEXPECTED_MESSAGE, peer, "it asked for nothing")
        finally:
            with trio.move_on_after(ANSWER_SECONDS) as scope:
                scope.shield = True
                await stream.close()

    async def _reserve(self, stream: Any, peer: str) -> None:
        """In the peer's own name, whatever it says. Without a voucher, which nobody asks for."""
        held = self.reservations
        if not self.admits(peer):
            await self._refuse(stream, pb.PERMISSION_DENIED, peer, "it is not of this swarm")
        elif peer not in held and len(held) >= MOST_RESERVATIONS:
            await self._refuse(stream, pb.RESOURCE_LIMIT_EXCEEDED, peer, "all reservations are taken")
        else:
            self._reserved[peer] = trio.current_time() + RESERVATION_SECONDS
            answer = _status(pb.OK)
            answer.reservation.expire = int(time.time()) + RESERVATION_SECONDS
            await tell(stream, answer)

    async def _connect(self, stream: Any, caller: str, called: str) -> None:
        if not self.admits(caller):
            await self._refuse(stream, pb.PERMISSION_DENIED, caller, "it is not of this swarm")
        elif called not in self.reservations:
            await tell(stream, _status(pb.NO_RESERVATION))  # it may just have gone
        elif self._open >= MOST_CIRCUITS or max(self._circuits[caller], self._circuits[called]) >= CIRCUITS_OF_A_PEER:
            await self._refuse(stream, pb.RESOURCE_LIMIT_EXCEEDED, caller, "it has circuits enough")
        else:
            with self._counted(caller, called), trio.move_on_after(2 * CIRCUIT_SECONDS):  # ``carry`` ends long before
                await self._join(stream, caller, called)

    async def _join(self, stream: Any, caller: str, called: str) -> None:
        try:
            far = await opened(self._host, called, STOP)
        except RemoteProtocolError:
            await tell(stream, _status(pb.CONNECTION_FAILED))
            return
        try:
            if await self._put_through(far, caller):
                await tell(stream, _status(pb.OK))
                await carry(stream, far)
            else:
                await tell(stream, _status(pb.CONNECTION_FAILED))
        finally:
            await end(far)

    async def _put_through(self, far: Any, caller: str) -> bool:
        """Whether the other takes the call."""
        with suppress(RemoteProtocolError):
            await tell(far, pb.StopMessage(type=pb.StopMessage.CONNECT, peer=_peer(caller), limit=_limit()))
            answer = await told(far, pb.StopMessage)
            return bool(answer.status == pb.OK)
        return False

    async def _refuse(self, stream: Any, status: Any, peer: str, wrong: str) -> None:
        self._door.refuse_relay(peer, wrong)
        await tell(stream, _status(status))

    def _connected(self, peer: str) -> bool:
        some = self._network.get_connections(ID.from_base58(peer))
        return any(map(is_here, some))

    @contextmanager
    def _counted(self, *ends: str) -> Iterator[None]:
        self._open += 1
        self._circuits.update(ends)
        try:
            yield
        finally:
            self._open -= 1
            self._circuits -= Counter(ends)


async def carry(one: Any, other: Any, most: int = CIRCUIT_BYTES) -> None:
    """Pass on what either says until one of them ends it, ``most`` bytes have been said or its time is over; ends both.

    Nothing is cancelled: upstream a write that is cancelled after it was encrypted ends the connection that it was for,
    with all that others have to say on it.
    """
    left = most
    over = trio.Event()

    async def pass_on(source: Any, sink: Any) -> None:
        nonlocal left
        with suppress(BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.read(PIECE):
                left -= len(data)
                if left < 0:
                    break
                await sink.write(data)
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pass_on, one, other)
        nursery.start_soon(pass_on, other, one)
        with trio.move_on_after(CIRCUIT_SECONDS):
            await over.wait()
        await end(one)
        await end(other)


def _status(code: Any) -> Any:
    return pb.HopMessage(type=pb.HopMessage.STATUS, status=code, limit=_limit())


def _limit() -> Any:
    return pb.Limit(duration=CIRCUIT_SECONDS, data=CIRCUIT_BYTES)


def _peer(peer: str) -> Any:
    return pb.PeerId(id=ID.from_base58(peer).to_bytes())
