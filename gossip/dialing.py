"""Addresses and what goes wrong with them, in one clear line each."""

import errno
import os
import socket
from collections.abc import Iterator

import trio
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.transport.exceptions import MuxerUpgradeFailure
from libp2p.utils.address_validation import get_available_interfaces
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from gossip.private import KeyMismatch
from gossip.transport import EXAMPLE, ConnectError
from protocol.errors import UserError

EXAMPLE_LISTEN = "/ip4/0.0.0.0/tcp/4001"
EXAMPLE_ANNOUNCE = "/dns4/node.example/tcp/4001"

#: A name that stands for more is a farm of servers, not a node.
MOST_RESOLVED = 3

_FAMILIES = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6}
_ANY = {"0.0.0.0", "::"}
_REFUSALS = (KeyMismatch, MuxerUpgradeFailure)
_KINDS = ("/ip4/", "/ip6/", "/dns4/", "/dns6/", "/dns/")


def parse_dial(address: str) -> Multiaddr:
    """An address to dial. Raises ConnectError."""
    try:
        parsed = Multiaddr(address)
        names = [protocol.name for protocol in parsed.protocols()]
    except (MultiaddrError, ValueError):
        raise ConnectError(f"{address}: not an address; expected one such as {EXAMPLE}") from None
    if not address.startswith(_KINDS) or names[1:] not in (["tcp", "p2p"], ["tcp", "p2p", "p2p-circuit", "p2p"]):
        raise ConnectError(f"{address}: only /ip4, /ip6 and /dns4 over /tcp can be dialed, as in {EXAMPLE}")
    return parsed


async def resolve(address: Multiaddr) -> list[Multiaddr]:
    """The same with IP addresses for a name, as this machine resolves it: libp2p asks name servers alone, and
    so knows neither localhost nor what else stands in /etc/hosts. Raises OSError.
    """
    name = next(iter(address.protocols())).name
    if name in _FAMILIES:
        return [address]
    host, port = address.value_for_protocol(name), address.value_for_protocol("tcp")
    family = {"dns4": socket.AF_INET, "dns6": socket.AF_INET6}.get(name, socket.AF_UNSPEC)
    found = await trio.socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    peer = address.value_for_protocol("p2p")
    kinds = {socket.AF_INET: "ip4", socket.AF_INET6: "ip6"}
    return [Multiaddr(f"/{kinds[one[0]]}/{one[4][0]}/tcp/{port}/p2p/{peer}") for one in found[:MOST_RESOLVED]]


def parse_listen(address: str) -> Multiaddr:
    """An address to listen at. Raises UserError, also where its port is taken.

    libp2p listens with SO_REUSEPORT: two nodes of one user would share a port, each getting half of the
    connections. So the port is tried without first.
    """
    try:
        parsed = Multiaddr(address)
        names = [protocol.name for protocol in parsed.protocols()]
    except (MultiaddrError, ValueError):
        raise UserError(f"cannot listen at {address}: expected one such as {EXAMPLE_LISTEN}") from None
    if len(names) != 2 or names[0] not in _FAMILIES or names[1] != "tcp":
        raise UserError(f"cannot listen at {address}: expected one such as {EXAMPLE_LISTEN}")
    try:
        with socket.socket(_FAMILIES[names[0]], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((parsed.value_for_protocol(names[0]), int(parsed.value_for_protocol("tcp"))))
            probe.listen(1)
    except OSError as error:
        raise UserError(f"cannot listen at {address}: {_reason(error)}") from None
    return parsed


def check_announce(address: str) -> None:
    """An address at which others may dial us, without a peer id. Raises UserError."""
    try:
        names = [protocol.name for protocol in Multiaddr(address).protocols()]
    except (MultiaddrError, ValueError):
        names = []
    if not address.startswith(_KINDS) or names[1:] != ["tcp"]:
        raise UserError(f"cannot announce {address}: expected one such as {EXAMPLE_ANNOUNCE}")


def reachable_at(bound: Multiaddr) -> Iterator[str]:
    """Where others may dial what is bound: all interfaces, those that others can see first."""
    name = next(iter(bound.protocols())).name
    host, port = bound.value_for_protocol(name), int(bound.value_for_protocol("tcp"))
    if host not in _ANY:
        yield str(bound)
        return
    found = [str(one) for one in get_available_interfaces(port) if str(one).startswith(f"/{name}/")]
    yield from sorted(found, key=lambda address: (is_loopback(address), address))


def is_loopback(address: str) -> bool:
    return address.startswith(("/ip4/127.", "/ip6/::1/"))


def why(error: BaseException) -> str:
    """Why a dial failed, from the innermost cause that says something."""
    causes = list(_causes(error))
    refusals = [cause for cause in causes if isinstance(cause, _REFUSALS)]  # say more than "connection reset"
    reasons = [_said(cause) for cause in refusals or causes]
    return next((reason for reason in reasons if reason), "it does not answer as a node does")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that led to it, the innermost first."""
    if error is None:
        return
    for inner in (*getattr(error, "errors", ()), *getattr(error, "exceptions", ())):
        yield from _causes(inner)
    yield from _causes(error.__cause__ or error.__context__)
    yield error


def _said(error: BaseException) -> str:
    if isinstance(error, PeerIDMismatchesPubkey):
        return "another peer answers there; its id is " + str(error).rsplit("=", 1)[-1]
    if isinstance(error, KeyMismatch):
        return str(error)
    if isinstance(error, MuxerUpgradeFailure):
        return "it hung up when it knew who this is: it may let in only the peers that it was told of with --allow"
    return _reason(error) if isinstance(error, OSError) and error.errno is not None else ""


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "its port is in use"
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    return os.strerror(error.errno).lower() if error.errno is not None else str(error)
