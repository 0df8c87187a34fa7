"""Being reached where nobody can dial us, and reaching others there: through a relay, to find a direct way at once.

Who listens nowhere, or is seen by others at an address that is not its own, holds reservations with some of the peers
that it dialed, and tells of its circuits in its presence. Who calls through one is answered with hole punching
(gossip/punch.py); the circuit is hung up when that has come to an end, one way or the other.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from multiaddr import Multiaddr

from gossip.circuit import HOP, end, opened, raw, split, tell, told
from gossip.connections import is_here, own_host, relayed
from gossip.endings import hang_up
from gossip.gate import Budgets, Door
from gossip.punch import Spot, follow, lead, own_spot, punch, seen_at
from gossip.transport import CIRCUIT, ConnectError, fits, peer_of
from protocol.errors import RemoteProtocolError

log = logging.getLogger(__name__)

#: One that goes away is no loss, and each costs others an address to try.
RELAYS = 2
#: How soon a relay that has gone is replaced.
LOOK_SECONDS = 5.0
#: A peer that would not be our relay: it may not have heard of us yet.
ASK_AGAIN_SECONDS = 20.0
#: Half of the time that a relay gives, so that an answer that is lost costs no reservation: it is asked again while the
#: other half lasts.
RENEW_SECONDS = 1800.0
#: Calls of others that are answered at a time, each over within a minute: so many by each relay, and one of a caller.
CALLS_OF_A_RELAY = 4
#: What a relay puts through in the long run, whatever names it says, and at once after a pause: all peers of a node
#: call after it was away. A call was measured to cost both ends and the relay 0.1 s of a core, all together.
RELAYED_A_SECOND, RELAYED_BURST = 0.2, 32.0
#: Of one caller: one through whose NAT no way is found calls twice an hour.
CALLED_A_SECOND, CALLED_BURST = 1 / 60, 6.0
#: To the moment that both dial: for who is called from its answer on, for who calls from the end of the handshake.
AGREE_SECONDS = 10.0
#: Where both NATs let nothing through, they will not soon.
NO_WAY_SECONDS = 1800.0

#: Names of what a relay may answer; it may answer any other number.
_STATUS = {number: name for name, number in pb.Status.items()}


@dataclass
class _Call:
    """One of ours that is under way: where we shall be, as soon as we know, and then where the other will be."""

    own: Spot | None = None
    far: Spot | None = None
    agreed: trio.Event = field(default_factory=trio.Event)


class Reach:
    """``dialed`` says where a connected peer was dialed; a node that listens nowhere is never dialed itself."""

    def __init__(
        self, host: Any, door: Door, dialed: Callable[[str], str | None], *, listens: bool, announces: bool
    ) -> None:
        self._host = host
        self._network = host.get_network()
        self._me = str(host.get_id())
        self._door = door
        self._dialed = dialed
        self._listens, self._announces = listens, announces
        self._relays: dict[str, tuple[str, float]] = {}
        self._asked: dict[str, float] = {}
        self._calls: dict[str, _Call] = {}
        self._answering: dict[str, str] = {}
        self._by_relay = Budgets(RELAYED_A_SECOND, RELAYED_BURST)
        self._by_caller = Budgets(CALLED_A_SECOND, CALLED_BURST)
        self._no_way: dict[str, float] = {}

    def addresses(self) -> list[str]:
        """Our circuits, without ``/p2p/`` and our own id."""
        return [f"{address}{CIRCUIT}" for peer, (address, _) in self._relays.items() if self._direct(peer)]

    # holding reservations

    async def hold(self) -> None:
        """Until cancelled, keep some reservations where we need them."""
        while not self._announces:
            now = trio.current_time()
            self._relays = {peer: held for peer, held in self._relays.items() if self._holds(peer, now)}
            self._asked = {peer: due for peer, due in self._asked.items() if due > now and self._direct(peer)}
            for peer in self._due(now):
                await self._reserve(peer)
            await trio.sleep(LOOK_SECONDS)

    def _due(self, now: float) -> list[str]:
        """Whom to ask: for a longer reservation, or for one more."""
        renewed = [peer for peer, (_, due) in self._relays.items() if due <= now and peer not in self._asked]
        others = [peer for peer in map(str, self._network.get_connections_map()) if peer not in self._relays]
        able = [peer for peer in others if peer not in self._asked and self._relay_address(peer) is not None]
        return [*renewed, *able[: max(0, RELAYS - len(self._relays))]]

    def _holds(self, peer: str, now: float) -> bool:
        """Whether a reservation with a peer still stands."""
        _, due = self._relays[peer]
        return self._direct(peer) and now < due + RENEW_SECONDS

    def _relay_address(self, peer: str) -> str | None:
        """Where others can dial a peer: that we did says that it can be done. None where a circuit there, with our id,
        would be too long to be told.
        """
        address = self._dialed(peer)
        if address is None or split(address)[0] or not self._direct(peer):
            return None
        return address if fits(f"{address}{CIRCUIT}/p2p/{self._me}") else None

    async def _reserve(self, peer: str) -> None:
        self._asked[peer] = trio.current_time() + ASK_AGAIN_SECONDS
        address = self._relay_address(peer)
        if address is None or (self._listens and not await self._behind_nat(peer)):
            self._relays.pop(peer, None)
            return
        with suppress(RemoteProtocolError):  # it says nothing: what we have of it stands
            stream, status = await self._ask(peer, pb.HopMessage(type=pb.HopMessage.RESERVE))
            await end(stream)
            if status == pb.OK:
                self._relays[peer] = (address, trio.current_time() + RENEW_SECONDS)
            else:
                self._relays.pop(peer, None)

    async def _behind_nat(self, peer: str) -> bool:
        """Whether a peer sees us elsewhere than where we are; if not, it is not asked again."""
        seen = await seen_at(self._host, peer)
        if seen is None:
            return False
        ours = [own_host(one.muxed_conn) for one in self._network.get_connections(ID.from_base58(peer))]
        if str(seen) in ours:
            self._asked[peer] = inf
            return False
        return True

    async def _ask(self, relay: str, question: Any) -> tuple[Any, Any]:
        """A stream to a relay and its answer. Raises RemoteProtocolError."""
        stream = await opened(self._host, relay, HOP)
        try:
            await tell(stream, question)
            return stream, (await told(stream, pb.HopMessage)).status
        except BaseException:  # cancelled too: it would stay until its connection ends
            await end(stream)
            raise

    # calling

    async def dial(self, address: str) -> None:
        """A direct connection to a peer, by a circuit at a relay that we are connected to. Raises ConnectError,
        BaseLibp2pError and OSError.
        """
        relay, peer = split(address)
        now = trio.current_time()
        self._no_way = {one: due for one, due in self._no_way.items() if due > now}
        if peer in self._no_way:
            raise ConnectError(f"{address}: no way was found through its NAT and ours a short time ago")
        if peer in self._calls or peer in self._answering:
            raise ConnectError(f"{address}: it is being called already, or calls us")
        call = self._calls[peer] = _Call()  # at once, or another would begin meanwhile
        try:
            call.own = await own_spot(self._host, peer_of(relay))
            await self._call(address, peer_of(relay), peer, call)
        except RemoteProtocolError as error:
            raise ConnectError(f"{address}: cannot reach it through its relay: {error}") from None
        finally:
            del self._calls[peer]

    async def _call(self, address: str, relay: str, peer: str, call: _Call) -> None:
        there = pb.PeerId(id=ID.from_base58(peer).to_bytes())
        stream, status = await self._ask(relay, pb.HopMessage(type=pb.HopMessage.CONNECT, peer=there))
        circuit = raw(stream, address, initiator=True)
        try:
            if status != pb.OK:
                raise RemoteProtocolError("stream", f"the relay says {_STATUS.get(status, status)}")
            await self._network.upgrade_outbound_raw_conn(circuit, ID.from_base58(peer))
            with trio.move_on_after(AGREE_SECONDS):
                await call.agreed.wait()
            found = None if call.own is None or call.far is None else await punch(call.own, call.far, listen=False)
        finally:
            await self._hang_up(peer)
            await circuit.close()
        if found is None:
            if call.far is not None:  # else they did not agree in time, which tells nothing of NATs
                self._no_way[peer] = trio.current_time() + NO_WAY_SECONDS
            raise RemoteProtocolError("stream", "no way was found through its NAT and ours")
        try:
            await self._network.upgrade_outbound_raw_conn(_socket(found, initiator=True), ID.from_base58(peer))
        except BaseException:
            await trio.aclose_forcefully(found)
            raise

    async def answer_punch(self, stream: Any) -> None:
        """The peer that we call agrees with us on a moment. Raises RemoteProtocolError."""
        call = self._calls.get(str(stream.muxed_conn.peer_id))
        if call is None or call.own is None or not relayed(stream.muxed_conn):
            await end(stream)
            return
        call.far = await follow(stream, call.own)
        call.agreed.set()

    # being called

    async def answer_call(self, stream: Any, then: Callable[[Any], None]) -> None:
        """A relay puts a peer through. ``then`` gets what a connection is made of, where there is a direct way.
        Raises RemoteProtocolError.
        """
        relay = str(stream.muxed_conn.peer_id)
        asked = await told(stream, pb.StopMessage)
        caller = str(ID(asked.peer.id))
        if asked.type != pb.StopMessage.CONNECT or not self._takes(caller, relay):
            await tell(stream, pb.StopMessage(type=pb.StopMessage.STATUS, status=pb.PERMISSION_DENIED))
            await stream.close()
            return
        self._answering[caller] = relay
        try:
            await tell(stream, pb.StopMessage(type=pb.StopMessage.STATUS, status=pb.OK))
            found = await self._punch_with(stream, caller, relay)
        finally:
            del self._answering[caller]
        if found is not None:
            then(_socket(found, initiator=False))

    def _takes(self, caller: str, relay: str) -> bool:
        """Of two that call each other, one goes on calling."""
        wrong = self._too_much(caller, relay)
        if wrong:
            self._door.refuse_call(relay, wrong)
            return False
        calls_too = caller in self._calls and self._me < caller
        return self._door.admit(caller) and not (calls_too or self._direct(caller))

    def _too_much(self, caller: str, relay: str) -> str:
        """What is wrong with a call that a relay puts through, "" for nothing."""
        if relay not in self._relays:
            return "it is no relay of ours"
        now_ms = round(trio.current_time() * 1000)
        by_relay = [*self._answering.values()].count(relay)
        if caller in self._answering or by_relay >= CALLS_OF_A_RELAY:
            return "calls enough are being answered"
        if not (self._by_caller.spend(caller, now_ms) and self._by_relay.spend(relay, now_ms)):
            return "too many calls"  # one caller's, or all that its relay may put through, of which they cost nothing
        return ""

    async def _punch_with(self, stream: Any, caller: str, relay: str) -> trio.SocketStream | None:
        address = f"/p2p/{self._me}{CIRCUIT}/p2p/{caller}"
        circuit = raw(stream, address, initiator=False)
        try:
            with trio.fail_after(AGREE_SECONDS):
                own = await own_spot(self._host, relay)
                await self._network.upgrade_inbound_raw_conn(circuit, Multiaddr(address))
                far = await lead(self._host, caller, own)
            return await punch(own, far, listen=True)
        except (BaseLibp2pError, OSError, trio.TooSlowError) as error:
            raise RemoteProtocolError("stream", f"a call by {caller}: {error}") from None
        finally:
            await self._hang_up(caller)
            await circuit.close()

    # connections

    def _direct(self, peer: str) -> bool:
        some = self._network.get_connections(ID.from_base58(peer))
        return any(map(is_here, some))

    async def _hang_up(self, peer: str) -> None:
        for one in list(self._network.get_connections(ID.from_base58(peer))):
            if relayed(one.muxed_conn):
                await hang_up(one)


def _socket(found: trio.SocketStream, *, initiator: bool) -> RawConnection:
    return RawConnection(TrioTCPStream(found), initiator)
