"""Where Prometheus finds the metrics of a swarm: HTTP service discovery for ``/sd``.

https://prometheus.io/docs/prometheus/latest/http_sd/

A node that wants to be scraped says so in its Presence: ``:8420`` is a port at the address that its connections come
from, ``127.0.0.1:8420`` is for nodes on the same machine alone. Listed is the host of a connection on which the peer
has shown its key, and nothing that the peer says of it; so nobody can aim our Prometheus at a third machine.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from gossip.transport import LOOPBACK, Transport
from protocol.records import Presence

#: Peers whose host is remembered: more than a node is ever connected to in the time that a presence lives.
MOST_HOSTS = 1000
MAX_PORT = 65535


class Hosts:
    """At which host each peer was when it was last connected; the connections of now count first."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: OrderedDict[str, str] = OrderedDict()

    def known(self) -> Mapping[str, str]:
        """By peer id."""
        for peer in self._transport.peers():
            host = self._transport.host(peer)
            if host:
                self._known[peer] = host
                self._known.move_to_end(peer)
        while len(self._known) > MOST_HOSTS:
            self._known.popitem(last=False)
        return self._known


def address_to_tell(bound: str, port: int, *, public: bool) -> str:
    """What a node says that serves HTTP on ``bound``, an IP address: beyond loopback only where the user wants it."""
    if ip_address(bound).is_loopback:
        return f"{LOOPBACK}:{port}" if bound == LOOPBACK else ""
    return f":{port}" if public else ""


def target(told: str, host: str) -> str | None:
    """Where the metrics of a peer are that is at ``host`` and has told this; None where it may not be asked."""
    said, _, port = told.rpartition(":")
    if not port.isdecimal() or not port.isascii() or not 0 < int(port) <= MAX_PORT or said not in ("", host):
        return None
    return f"[{host}]:{int(port)}" if ":" in host else f"{host}:{int(port)}"


def targets(
    own: str, me: str, heard: Mapping[str, Presence], hosts: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Prometheus's list: this node, at ``own`` as it was asked, and every live one that may be asked.

    What the label ``own`` marks was measured by this node: a stranger's metrics can say anything, and only a label of
    ours can't be among them.
    """
    found: Iterable[tuple[str, str, str | None]] = (
        ("no", peer, target(presence.metrics_address, hosts[peer]))
        for peer, presence in sorted(heard.items())
        if peer in hosts
    )
    every = (("yes", me, own), *found)
    return [
        {"targets": [where], "labels": {"node": peer, "own": mine}} for mine, peer, where in every if where is not None
    ]
