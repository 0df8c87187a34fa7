"""Nodes of the same swarm on the local network, found by multicast DNS (RFC 6762, RFC 6763): nobody types an address.

Whoever listens to the network learns that there is a node, of which swarm and where; a node that listens nowhere but
on its own machine says nothing. What is heard is a hint and no more: the handshake proves who is there.
"""

import logging
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import trio
from zeroconf import ServiceBrowser, ServiceInfo, Zeroconf

from gossip.dialing import is_loopback
from gossip.transport import ConnectError, peer_of

log = logging.getLogger(__name__)

SERVICE = "_waggle._tcp.local."
#: Of one node; each takes some 80 of the 255 bytes that a property may have.
MOST_ADDRESSES = 4
#: Hints that wait to be taken; a local network has fewer nodes.
MOST_WAITING = 256
#: For a neighbour's answer about itself.
ANSWER_MS = 3000
_PROPERTY_BYTES = 255


async def find_neighbours(swarm_id: bytes, addresses: Sequence[str], hint: Callable[[str], None]) -> None:
    """Until cancelled, tell others where we are and give ``hint`` the addresses of nodes of the same swarm.

    Where the network does not let us, that is said and nothing else happens.
    """
    ours = [one for one in addresses if not is_loopback(one) and len(one) < _PROPERTY_BYTES - 2][:MOST_ADDRESSES]
    if not ours:
        return
    found, hints = trio.open_memory_channel[str](MOST_WAITING)
    token = trio.lowlevel.current_trio_token()

    def tell(address: str) -> None:
        with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            found.send_nowait(address)

    browser = _Browser(swarm_id, peer_of(ours[0]), lambda address: token.run_sync_soon(tell, address))
    try:
        async with found, _multicast(_service(swarm_id, ours), browser):
            async for address in hints:
                hint(address)
    except OSError as error:
        log.info("nodes on the local network are not looked for: %s", error)


@asynccontextmanager
async def _multicast(service: ServiceInfo, browser: "_Browser") -> AsyncIterator[None]:
    """In worker threads: the library would else take the loop that runs here for its own."""
    zeroconf = await trio.to_thread.run_sync(Zeroconf)
    try:
        await trio.to_thread.run_sync(zeroconf.register_service, service)
        await trio.to_thread.run_sync(ServiceBrowser, zeroconf, SERVICE, browser)
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(zeroconf.close)


def _service(swarm_id: bytes, addresses: Sequence[str]) -> ServiceInfo:
    peer = peer_of(addresses[0])
    return ServiceInfo(
        SERVICE,
        f"{peer[-16:]}.{SERVICE}",
        port=int(addresses[0].split("/tcp/")[1].split("/")[0]),
        properties={"swarm": swarm_id.hex(), **{f"a{number}": one for number, one in enumerate(addresses)}},
        addresses=[socket.inet_aton(one.split("/")[2]) for one in addresses if one.startswith("/ip4/")],
        server=f"{peer[-16:]}.local.",
    )


class _Browser:
    """What the library calls, from a thread of its own."""

    def __init__(self, swarm_id: bytes, me: str, found: Callable[[str], None]) -> None:
        self._swarm, self._me, self._found = swarm_id.hex().encode(), me, found

    def add_service(self, zeroconf: Zeroconf, kind: str, name: str) -> None:
        service = zeroconf.get_service_info(kind, name, ANSWER_MS)
        if service is None or service.properties.get(b"swarm") != self._swarm:
            return
        for number in range(MOST_ADDRESSES):
            address = (service.properties.get(f"a{number}".encode()) or b"").decode("utf-8", "replace")
            with suppress(ConnectError):
                if peer_of(address) != self._me:
                    self._found(address)

    update_service = add_service

    def remove_service(self, zeroconf: Zeroconf, kind: str, name: str) -> None:
        """It may only be out of hearing; whoever is dialed in vain is dialed less and less."""
