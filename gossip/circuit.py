"""What a relay, its callers and those they call say to each other: libp2p's circuit v2 and DCUtR, on the wire.

https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md
https://github.com/libp2p/specs/blob/master/relay/DCUtR.md

py-libp2p 0.8.1 has both in ``libp2p.relay``; of it we take the messages, and neither relay nor hole punching, which
do not meet our bounds (tests/gossip/test_traps.py has what fails).
"""

from contextlib import suppress
from typing import Any

import trio
from google.protobuf.message import DecodeError
from libp2p.connection_types import ConnectionType
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr

from gossip.endings import reset
from gossip.transport import CIRCUIT, CLOSE_SECONDS
from protocol.errors import RemoteProtocolError

HOP = TProtocol("/libp2p/circuit/relay/0.2.0/hop")
STOP = TProtocol("/libp2p/circuit/relay/0.2.0/stop")
DCUTR = TProtocol("/libp2p/dcutr")

#: The bound of DCUtR's specification; a message names a peer and some addresses.
MOST_MESSAGE_BYTES = 4096
#: For one message: two round trips between far machines, and a busy one between them.
ANSWER_SECONDS = 5.0

_BROKEN = (BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)


async def tell(stream: Any, message: Any) -> None:
    """Raises RemoteProtocolError("stream"), also where the peer takes nothing."""
    try:
        with trio.fail_after(ANSWER_SECONDS):
            await stream.write(encode_varint_prefixed(message.SerializeToString()))
    except (*_BROKEN, trio.TooSlowError) as error:
        raise RemoteProtocolError("stream", f"closed by the peer: {error}") from None


async def opened(host: Any, peer: str, protocol: TProtocol) -> Any:
    """A stream to a connected peer. Raises RemoteProtocolError("stream")."""
    try:
        with trio.fail_after(ANSWER_SECONDS):
            return await host.new_stream(ID.from_base58(peer), [protocol])
    except (*_BROKEN, trio.TooSlowError) as error:
        raise RemoteProtocolError("stream", f"{peer} does not open {protocol}: {error}") from None


async def told(stream: Any, kind: Any, most: int = MOST_MESSAGE_BYTES) -> Any:
    """The next message, of a protobuf ``kind``. Raises RemoteProtocolError, also where none comes."""
    try:
        with trio.fail_after(ANSWER_SECONDS):
            data = await read_varint_prefixed_bytes_limited(stream, most)
        return kind.FromString(data)
    except DecodeError:
        raise RemoteProtocolError("malformed", f"no {kind.__name__}") from None
    except (*_BROKEN, trio.TooSlowError) as error:
        raise RemoteProtocolError("stream", f"closed by the peer: {error}") from None


async def end(stream: Any) -> None:
    """Close both ways, also where we are cancelled, and wait for nobody."""
    with trio.move_on_after(CLOSE_SECONDS) as scope, suppress(*_BROKEN):
        scope.shield = True
        await reset(stream)


def split(address: str) -> tuple[str, str]:
    """The relay's address in one of a circuit, and the peer id at its end; "" for a relay where it is none."""
    relay, _, rest = address.partition(f"{CIRCUIT}/p2p/")
    return (relay, rest) if rest else ("", "")


def raw(stream: Any, address: str, *, initiator: bool) -> RawConnection:
    """A stream whose other end is a peer, as what libp2p makes connections of."""
    return RawConnection(_Piece(stream), initiator, ConnectionType.RELAYED, [Multiaddr(address)])


class _Piece(ReadWriteCloser):  # type: ignore[misc]  # libp2p has no usable types
    """A stream that ends as a socket does."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def read(self, n: int | None = None) -> bytes:
        try:
            data: bytes = await self._stream.read(n)
        except EOFError:
            return b""
        except _BROKEN as error:
            raise ConnectionClosedError(f"the circuit has ended: {error}") from error
        return data

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.write(data)
        except _BROKEN as error:
            raise ConnectionClosedError(f"the circuit has ended: {error}") from error

    async def close(self) -> None:
        await end(self._stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        return None
