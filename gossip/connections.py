"""What can be told of a connection of libp2p: whether it is a direct one, when it was heard, and who is at its end."""

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import trio
from libp2p.abc import INotifee
from libp2p.connection_types import ConnectionType

from gossip.transport import LOOPBACK


def relayed(muxed: Any) -> bool:
    """Whether a connection goes through a relay."""
    return bool(muxed.get_connection_type() is ConnectionType.RELAYED)


def is_here(connection: Any) -> bool:
    return not connection.is_closed and not relayed(connection.muxed_conn)


class Arrivals(INotifee):  # type: ignore[misc]  # libp2p has no usable types
    """Tells of connections; what it leaves lying is found by looking at ``peers``."""

    def __init__(self, arrived: trio.MemorySendChannel[str], gone: Callable[[str], None]) -> None:
        self._arrived = arrived
        self._gone = gone

    async def connected(self, network: Any, conn: Any) -> None:
        if relayed(conn.muxed_conn):
            return
        with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._arrived.send_nowait(str(conn.muxed_conn.peer_id))

    async def disconnected(self, network: Any, conn: Any) -> None:
        self._gone(str(conn.muxed_conn.peer_id))

    async def opened_stream(self, network: Any, stream: Any) -> None: ...
    async def closed_stream(self, network: Any, stream: Any) -> None: ...
    async def listen(self, network: Any, multiaddr: Any) -> None: ...
    async def listen_close(self, network: Any, multiaddr: Any) -> None: ...


def heard_at(muxed: Any) -> float:
    """When the last byte came over a connection, in the seconds of ``trio.current_time``. Upstream: nothing tells."""
    return float(raw_of(muxed).heard_at)


def host_at(muxed: Any) -> str:
    """The IP address at the other end of a connection, LOOPBACK where it is our own; "" where it has ended."""
    return place_of(raw_of(muxed))


def own_host(muxed: Any) -> str:
    """The IP address at our end of a connection, "" where it has ended."""
    return host_of(raw_of(muxed), "getsockname")


def raw_of(muxed: Any) -> Any:
    return muxed.secured_conn.conn.read_writer.read_write_closer


def place_of(raw: Any) -> str:
    """As ``host_at``, of a connection before its handshake."""
    host = host_of(raw)
    return LOOPBACK if host and host == host_of(raw, "getsockname") else host


def host_of(raw: Any, end: str = "getpeername") -> str:
    """Upstream: ``get_remote_address`` knows IPv4 only. "" through a relay."""
    if raw.get_connection_type() is ConnectionType.RELAYED:
        return ""
    try:
        host = ip_address(getattr(raw.stream.stream.socket, end)()[0].partition("%")[0])
    except OSError:
        return ""
    return str(getattr(host, "ipv4_mapped", None) or host)
