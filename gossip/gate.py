"""What may enter: bytes become records here, once; peers that send wrong ones are shut out for a while."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network

from gossip.live import lasts_ms
from gossip.seen import Seen
from gossip.transport import Judge, Lenient
from protocol.errors import RemoteProtocolError
from protocol.records import Record, open_record
from protocol.statements import Claim, Note, Presence, Result, Verdict

log = logging.getLogger(__name__)

#: Clocks of machines that nobody minds differ by minutes; what is further ahead may come again later.
AHEAD_MS = 10 * 60_000
#: Presences and claims are news or nothing. A claim that somebody passes on may be as old as it stands.
STALE_MS = 10 * 60_000
#: All the addresses that a presence may have, or the tunables of a large program; and 64 of them are not too much to
#: pass on to who asks.
MAX_EPHEMERAL_BYTES = 8 * 1024
#: Opened records that are remembered, so that a signature is verified once on each way through a node.
OPENED = 1024
#: Record ids that were refused, and would be refused again.
REFUSED = 65536
#: What a node can sensibly say: an experiment takes seconds at least. What is over it comes by sync.
MESSAGES_A_SECOND = 20.0
#: A node that was away for long tells all at once.
BURST = 1000.0
#: What a peer may pass on of all authors together: as much as a core verifies beside its other work. What is over
#: it comes by sync.
FORWARDED_A_SECOND = 200.0
FORWARDED_BURST = 4000.0
#: So much on top of that is borne, and for so long twice as much; then who sends it is struck for each message. No node
#: of ours passes on as much, however fast its machine and however many send to it.
FLOOD_A_SECOND, FLOOD_SECONDS = 1000.0, 60.0
#: Authors and peers that are told apart.
MOST_PEERS = 4096
#: Connections of one IP address: a laboratory behind one, and not all that there is room for.
MOST_OF_A_HOST = 64
#: Wrong messages of one peer, each of which an honest node would have stopped, until it is shut out. They are forgotten
#: one by one, all of them in that time: far slower than by stalling, and not so slowly that they add up over weeks.
STRIKES = 16
SHUT_OUT_MS = 10 * 60_000
FORGET_SECONDS = 6 * 3600.0
#: Wrong messages of all peers of one IP address together, in the time that one is shut out, until no new connection of
#: it is taken for as long: a new key is soon made, and a laboratory behind one address has more than one bad node.
STRIKES_OF_A_HOST = 16 * STRIKES
#: No fault of a peer: streams break, clocks differ, bursts happen.
FORGIVEN = frozenset({"stream", "future", "quota", "full"})
#: Of these, what may be right later and is taken then.
_LATER = FORGIVEN - {"full"}


class Door:
    """Who may come in at all: those ``allowed``, anybody where that is empty. Asked before a peer's first word.

    ``on_refused`` is told the reason of each connection that is refused; the log has one line per peer.
    """

    def __init__(self, allowed: Collection[str] = (), on_refused: Callable[[str], None] = lambda reason: None) -> None:
        self._allowed = frozenset(allowed)
        self._on_refused = on_refused
        self._told = Seen[str](MOST_PEERS)
        self.judge: Judge = Lenient()
        self._hosts: Counter[str] = Counter()

    def allows(self, peer: str) -> bool:
        return not self._allowed or peer in self._allowed

    def admit(self, peer: str) -> bool:
        """Whether a peer that has proved who it is may stay."""
        if not self.allows(peer):
            self._refuse("stranger", peer, "it is not among the peers that are allowed here")
            return False
        return True

    def refuse_key(self, host: str, wrong: str, *, private: bool) -> None:
        """Somebody at an IP address, of whom no more is known, does not have our key. A node that is not
        ``private`` has none; whoever looks for open ports comes this far.
        """
        self._refuse("key", host, wrong, logging.WARNING if private else logging.INFO)

    def refuse_relay(self, peer: str, wrong: str) -> None:
        """A connected peer wanted us for a relay."""
        self._refuse("relay", peer, wrong, logging.INFO)

    def refuse_call(self, relay: str, wrong: str) -> None:
        """A connected peer put a call through to us; whose it is, it alone says."""
        self._refuse("call", relay, wrong, logging.INFO)

    def refuse_words(self, peer: str, reason: str) -> None:
        """A connected peer said what is none of the messages about circuits."""
        if reason not in FORGIVEN:
            self._refuse(reason, peer, f"{reason} words about circuits", logging.INFO)

    @contextmanager
    def entered(self, host: str) -> Iterator[bool]:
        """Whether one more connection of an IP address may be here; it is while the block lasts."""
        host = household(host)
        enters = not self.judge.shuts_out(host) and self._hosts[host] < MOST_OF_A_HOST
        if self.judge.shuts_out(host):
            self._refuse("barred", host, "peers there sent too much that is wrong")
        elif not enters:
            self._refuse("crowd", host, f"{MOST_OF_A_HOST} of it are here already")
        self._hosts[host] += enters
        try:
            yield enters
        finally:
            self._hosts[host] -= enters
            if not self._hosts[host]:
                del self._hosts[host]

    def _refuse(self, reason: str, who: str, wrong: str, level: int = logging.WARNING) -> None:
        self._on_refused(reason)
        if self._told.add(f"{who} {wrong}"):
            log.log(level, "a connection of %s was refused: %s", who, wrong)


class Gate:
    """Checks what comes in and counts what is wrong.

    ``on_rejected`` is told the reason and the peer that gave it to us, ``on_shut_out`` the peer of whom we hear
    nothing for a while; ``holds`` says whether a record is held, ``host_of`` at which IP address a connected peer is.
    ``clock_ms`` is milliseconds since 1970.
    """

    def __init__(
        self,
        swarm_id: bytes,
        clock_ms: Callable[[], int],
        on_rejected: Callable[[str, str], None],
        *,
        host_of: Callable[[str], str] = lambda peer: "",
        on_shut_out: Callable[[str], None] = lambda peer: None,
        holds: Callable[[str], bool] = lambda record_id: False,
    ) -> None:
        self._swarm_id = swarm_id
        self._clock_ms = clock_ms
        self._on_rejected = on_rejected
        self._host_of = host_of
        self._on_shut_out = on_shut_out
        self._holds = holds
        self._opened: OrderedDict[bytes, Record] = OrderedDict()
        self._refused = Seen[str](REFUSED)
        self._authors = Budgets(MESSAGES_A_SECOND, BURST)
        self._forwarders = Budgets(FORWARDED_A_SECOND, FORWARDED_BURST)
        self._floods = Budgets(FLOOD_A_SECOND, FLOOD_SECONDS * FLOOD_A_SECOND)
        self._strikes = Budgets((STRIKES - 1) / FORGET_SECONDS, STRIKES - 1)
        self._hosts = Budgets(STRIKES_OF_A_HOST * 1000 / SHUT_OUT_MS, STRIKES_OF_A_HOST)
        self._came_from: OrderedDict[str, str] = OrderedDict()
        self._shut_out: dict[str, int] = {}

    def open(self, data: bytes, *, passed_on: bool = False) -> Record:
        """The record in some bytes; ``passed_on`` by a peer that we met, a claim may be older. Raises
        RemoteProtocolError.
        """
        name = sha256(data).digest()
        record = self._opened.get(name)
        if record is None:
            record = open_record(data, self._swarm_id)
            self._opened[name] = record
            if len(self._opened) > OPENED:
                self._opened.popitem(last=False)
        if record.ephemeral and len(data) > MAX_EPHEMERAL_BYTES:
            raise RemoteProtocolError("oversize", f"a presence or claim of {len(data)} bytes")
        self._check_time(record, passed_on)
        return record

    def hears(self, forwarder: str) -> bool:
        """Whether a message by a peer is looked at: what it passes on costs it of its own before any signature is."""
        if self.shuts_out(forwarder):
            return False
        now_ms = self._clock_ms()
        if self._forwarders.spend(forwarder, now_ms):
            return True
        self.reject(RemoteProtocolError("quota", "too many messages by one peer"), forwarder)
        if not self._floods.spend(forwarder, now_ms):
            self._blame(forwarder, "", 1)
        return False

    def admit(self, forwarder: str, data: bytes) -> bool:
        """Whether a gossiped message by a peer that is heard may be delivered and forwarded. An author pays for what is
        new alone, or repeating it would silence him.
        """
        now_ms = self._clock_ms()
        try:
            record = self.open(data)
            if not self._holds(record.id) and not self._authors.spend(record.author, now_ms):
                raise RemoteProtocolError("quota", "too many messages of one author")
        except RemoteProtocolError as error:
            self.reject(error, forwarder)
            return False
        return True

    def met(self, peer: str) -> None:
        """A peer has come: who sends what is wrong and is gone before it is looked at came from somewhere too."""
        self._came_from[peer] = household(self._host_of(peer))
        if len(self._came_from) > MOST_PEERS:
            self._came_from.popitem(last=False)

    def reject(self, error: RemoteProtocolError, peer: str, host: str = "", strikes: int = 1) -> None:
        """Count what a peer did wrong, or somebody at a host; it is as bad as so many wrong messages."""
        if error.reason == "stream" and not self._host_of(peer):
            return  # it broke with its connection, which either side or the network may end
        self._on_rejected(error.reason, peer or host)
        if error.reason not in FORGIVEN:
            self._blame(peer, host, strikes)

    def _blame(self, peer: str, host: str, strikes: int) -> None:
        self._strike(peer, strikes)
        self._strike_host(household(host or self._host_of(peer)) or self._came_from.get(peer, ""), strikes)

    def _strike(self, peer: str, strikes: int) -> None:
        if peer and not self._strikes.spend(peer, self._clock_ms(), strikes):
            self.shut_out(peer)

    def _strike_host(self, host: str, strikes: int) -> None:
        """Who is here from there stays: it has strikes of its own."""
        if host and not self._hosts.spend(host, self._clock_ms(), strikes):
            self._shut(host)

    @contextmanager
    def counting(self, peer: str) -> Iterator[None]:
        """What a peer does wrong in the block ends the block, and is counted."""
        try:
            yield
        except RemoteProtocolError as error:
            self.reject(error, peer)

    def refuse(self, record_id: str, error: RemoteProtocolError) -> None:
        """Remember a record that we will not take, so that it is not fetched again."""
        if error.reason not in _LATER:
            self._refused.add(record_id)

    def refused(self, record_id: str) -> bool:
        return record_id in self._refused

    def shut_out(self, peer: str) -> None:
        """Hear nothing of a peer for a while."""
        self._strikes.forget(peer)
        self._shut(peer)
        self._on_shut_out(peer)

    def _shut(self, name: str) -> None:
        self._shut_out[name] = self._clock_ms() + SHUT_OUT_MS
        if len(self._shut_out) > MOST_PEERS:
            del self._shut_out[next(iter(self._shut_out))]

    def shuts_out(self, name: str) -> bool:
        """A peer, or the household of an IP address."""
        until_ms = self._shut_out.get(name, 0)
        if until_ms and until_ms <= self._clock_ms():
            del self._shut_out[name]
            return False
        return bool(until_ms)

    def _check_time(self, record: Record, passed_on: bool) -> None:
        said = record.statement
        if not isinstance(said, Result | Note | Verdict | Presence | Claim):
            return
        if said.created_ms > self._clock_ms() + AHEAD_MS:
            raise RemoteProtocolError("future", f"{said.created_ms - self._clock_ms()} ms ahead")
        stands_ms = lasts_ms(said) if passed_on and isinstance(said, Claim) else STALE_MS
        if record.ephemeral and said.created_ms < self._clock_ms() - max(STALE_MS, stands_ms):
            raise RemoteProtocolError("future", "old news")


class Budgets:
    """So many messages a second of each name, and ``burst`` at once after a pause."""

    def __init__(self, a_second: float, burst: float) -> None:
        self._a_second, self._burst = a_second, burst
        self._left: OrderedDict[object, tuple[float, int]] = OrderedDict()

    def spend(self, name: object, now_ms: int, cost: float = 1.0) -> bool:
        """Whether there was one left, or as many as it costs; what is refused costs nothing."""
        left, since_ms = self._left.pop(name, (self._burst, now_ms))
        left = min(self._burst, left + (now_ms - since_ms) / 1000 * self._a_second)
        spent = left >= cost
        self._left[name] = (left - cost if spent else left, now_ms)
        if len(self._left) > MOST_PEERS:
            self._left.popitem(last=False)
        return spent

    def forget(self, name: object) -> None:
        self._left.pop(name, None)


def household(host: str) -> str:
    """What one customer of a provider has: an IPv4 address, or a /64 of IPv6."""
    address = ip_address(host) if host else None
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else host
