"""Addresses of peers, and when to dial them."""

import random
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from gossip.transport import ConnectError, peer_of

#: So many connections keep a swarm in one piece when peers vanish at random, and gossip to a few hops.
ENOUGH = 8
#: Beyond these, connections that we dialed are given up again, all but ``ENOUGH`` of them: what the mesh of gossip
#: takes, and some more.
PLENTY = 16
#: Each peer's first addresses are tried; a node behind several networks lists the best first.
MOST_ADDRESSES = 4
MOST_PEERS = 512
#: A failed dial is tried again after this, doubled each time up to the last: a healed partition is noticed
#: within it.
RETRY_SECONDS = 5.0
MOST_RETRY_SECONDS = 120.0


@dataclass
class _Entry:
    addresses: list[str]
    due: float = 0.0
    wait: float = RETRY_SECONDS
    turn: int = 0


@dataclass
class AddressBook:
    """Peers by id. ``known`` addresses are never forgotten; those heard are, the longest unheard first.

    Times are in the seconds of ``trio.current_time``.
    """

    me: str
    rng: random.Random
    _known: dict[str, _Entry] = field(default_factory=dict)
    _heard: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    _trying: set[str] = field(default_factory=set)

    def keep(self, addresses: Iterable[str]) -> None:
        """Addresses given by the user or remembered. Those without a peer id are left out."""
        for address in addresses:
            try:
                peer = peer_of(address)
            except ConnectError:
                continue
            entry = self._known.setdefault(peer, _Entry([]))
            if address not in entry.addresses:
                entry.addresses.append(address)

    def hear(self, peer: str, addresses: Iterable[str]) -> None:
        """What a peer says of itself; addresses of others are left out."""
        own = [address for address in addresses if address.endswith(f"/p2p/{peer}")][:MOST_ADDRESSES]
        if not own or peer == self.me:
            return
        entry = self._heard.pop(peer, None) or _Entry([])
        if entry.addresses != own:
            entry.addresses, entry.due, entry.wait = own, 0.0, RETRY_SECONDS
        self._heard[peer] = entry
        if len(self._heard) > MOST_PEERS:
            self._heard.popitem(last=False)

    def hint(self, address: str) -> None:
        """Where somebody says that a peer is; it changes nothing for a peer that is known. Raises ConnectError."""
        peer = peer_of(address)
        if peer not in self._known and peer not in self._heard:
            self.hear(peer, [address])

    def drop(self, peer: str) -> None:
        """Not one of ours."""
        self._known.pop(peer, None)
        self._heard.pop(peer, None)

    def candidate(self, connected: Collection[str], now: float) -> str | None:
        """An address to dial now, of a peer that we are not connected to; drawn at random. None of that peer is given
        again until it was ``tried``, so several may ask.
        """
        due = [
            (peer, entry)
            for book in (self._known, self._heard)
            for peer, entry in book.items()
            if entry.due <= now and peer not in connected and peer not in self._trying and peer != self.me
        ]
        if not due:
            return None
        peer, entry = self.rng.choice(due)
        self._trying.add(peer)
        entry.turn += 1
        return entry.addresses[entry.turn % len(entry.addresses) - 1]

    def tried(self, address: str, reached: bool, now: float) -> None:
        """Note what came of a dial."""
        self._trying.discard(peer_of(address))
        for book in (self._known, self._heard):
            entry = book.get(peer_of(address))
            if entry is not None:
                wait = RETRY_SECONDS if reached else entry.wait
                entry.due = now + wait * self.rng.uniform(0.5, 1.0)
                entry.wait = RETRY_SECONDS if reached else min(2 * wait, MOST_RETRY_SECONDS)
