"""A way through two NATs: both ends dial each other at the same moment and from a port that both know, so that each
NAT takes what comes for the answer to what its own side sent (TCP's simultaneous open, RFC 9293, 3.5).

The moment is agreed on over a circuit, as libp2p's DCUtR has it. Where a NAT answers what it does not know with a
reset, both packets must be under way at the same time; a try fails at once there, and the next follows at once.
py-libp2p 0.8.1 waits for seconds between its three tries, and gets through no such NAT.
"""

import random
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import trio
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch

from gossip.circuit import DCUTR, end, opened, tell, told
from protocol.errors import RemoteProtocolError

#: Most often it takes one try; who is not through by then has a NAT that changes ports.
PUNCH_SECONDS = 10.0
#: The longest between two tries, which are to be out of step with the other end's.
PAUSE_SECONDS = 0.02
#: Each a packet or a few, to an address of which a peer says that it is its own.
MOST_TRIES = 600
#: Of a peer's own addresses: the first that is of our kind is taken.
MOST_ADDRESSES = 20
#: What a peer says of itself, its key, addresses and protocols; a peer record doubles it.
MOST_IDENTIFY_BYTES = 64 * 1024

#: https://github.com/multiformats/multiaddr/blob/master/protocols.csv
_CODES, _SIZES, _TCP = {4: 0x04, 6: 0x29}, {4: 4, 6: 16}, b"\x06"
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True)
class Spot:
    """An address of a TCP port."""

    ip: IPv4Address | IPv6Address
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        return _FAMILIES[self.ip.version]

    @property
    def packed(self) -> bytes:
        """As a multiaddr."""
        return bytes([_CODES[self.ip.version]]) + self.ip.packed + _TCP + self.port.to_bytes(2, "big")


def unpack(data: bytes) -> Spot | None:
    """The IP address and TCP port that a multiaddr begins with, None for another kind."""
    for version, kind in ((4, IPv4Address), (6, IPv6Address)):
        head, tail = data[1 : 1 + _SIZES[version]], data[1 + _SIZES[version] :]
        if data[:1] == bytes([_CODES[version]]) and tail[:1] == _TCP and len(tail) >= 3:
            return Spot(kind(head), int.from_bytes(tail[1:3], "big"))
    return None


async def seen_at(host: Any, peer: str) -> IPv4Address | IPv6Address | None:
    """The IP address at which a connected peer sees us, None where it does not say."""
    try:
        stream = await opened(host, peer, IDENTIFY)
        try:
            said = await told(stream, Identify, MOST_IDENTIFY_BYTES)
        finally:
            await end(stream)
    except RemoteProtocolError:
        return None
    spot = unpack(said.observed_addr)
    return None if spot is None else spot.ip


async def own_spot(host: Any, relay: str) -> Spot:
    """Where somebody who asks a relay of ours can expect us. A NAT that is asked for a port by one machine alone keeps
    its number, nearly always. Raises RemoteProtocolError where the relay does not say where it sees us.
    """
    ip = await seen_at(host, relay)
    if ip is None:
        raise RemoteProtocolError("stream", "the relay does not say where it sees us")
    with socket.socket(_FAMILIES[ip.version]) as probe:
        probe.bind(("", 0))
        return Spot(ip, probe.getsockname()[1])


async def lead(host: Any, peer: str, own: Spot) -> Spot:
    """Agree on the moment as the end that was called: it is when this returns. Raises RemoteProtocolError."""
    stream = await opened(host, peer, DCUTR)
    begun = trio.current_time()
    await tell(stream, HolePunch(type=HolePunch.CONNECT, ObsAddrs=[own.packed]))
    far = agreed(await told(stream, HolePunch), own)
    one_way = (trio.current_time() - begun) / 2
    await tell(stream, HolePunch(type=HolePunch.SYNC))
    await trio.sleep(one_way)
    return far


async def follow(stream: Any, own: Spot) -> Spot:
    """Agree on the moment as the end that called. Raises RemoteProtocolError."""
    far = agreed(await told(stream, HolePunch), own)
    await tell(stream, HolePunch(type=HolePunch.CONNECT, ObsAddrs=[own.packed]))
    if (await told(stream, HolePunch)).type != HolePunch.SYNC:
        raise RemoteProtocolError("malformed", "the moment of hole punching was not told")
    return far


def agreed(message: Any, own: Spot) -> Spot:
    """Where the peer is; nobody far away can send us to addresses that only we reach."""
    if message.type != HolePunch.CONNECT:
        raise RemoteProtocolError("malformed", "no address for hole punching was told")
    for data in message.ObsAddrs[:MOST_ADDRESSES]:
        spot = unpack(data)
        if spot is not None and spot.port and spot.ip.version == own.ip.version:
            outside = spot.ip.is_global or not own.ip.is_global
            if outside and not spot.ip.is_multicast and not spot.ip.is_unspecified:
                return spot
    raise RemoteProtocolError("stream", "the peer names no address that could be reached from here")


async def punch(own: Spot, far: Spot, *, listen: bool) -> trio.SocketStream | None:
    """Dial until there is a connection, None where there is none in time. The end that ``listen``s is also there
    where the other needs no hole.
    """
    found: list[trio.socket.SocketType] = []

    async def dial() -> None:
        for _ in range(MOST_TRIES):
            with suppress(OSError):
                found.append(await _dial_once(own, far))
                nursery.cancel_scope.cancel()
                return
            await trio.sleep(random.uniform(0, PAUSE_SECONDS))

    async def accept(listener: trio.socket.SocketType) -> None:
        while True:
            taken, (host, *_) = await listener.accept()
            found.append(taken)
            if ip_address(host.partition("%")[0]) == far.ip:
                nursery.cancel_scope.cancel()
                return
            found.remove(taken)
            taken.close()

    try:
        with _bound(own) as listener, trio.move_on_after(PUNCH_SECONDS):
            async with trio.open_nursery() as nursery:
                if listen:
                    listener.listen(1)
                    nursery.start_soon(accept, listener)
                nursery.start_soon(dial)
        return trio.SocketStream(found.pop()) if found else None
    finally:
        for one in found:
            one.close()


async def _dial_once(own: Spot, far: Spot) -> trio.socket.SocketType:
    made = _bound(own)
    try:
        await made.connect((str(far.ip), far.port))
    except BaseException:
        made.close()
        raise
    return made


def _bound(own: Spot) -> trio.socket.SocketType:
    made = socket.socket(own.family, socket.SOCK_STREAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # the tries follow each other, beside one that listens
        made.setsockopt(socket.SOL_SOCKET, option, 1)
    made.bind(("", own.port))
    made.setblocking(False)
    return trio.socket.from_stdlib_socket(made)
