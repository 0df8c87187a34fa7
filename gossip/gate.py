"""What may enter: bytes become records here, once; peers that send wrong ones are shut out for a while."""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from gossip.seen import Seen
from protocol.errors import RemoteProtocolError
from protocol.records import Record, open_record
from protocol.statements import Claim, Note, Presence, Result, Verdict

#: Clocks of machines that nobody minds differ by minutes; what is further ahead may come again later.
AHEAD_MS = 10 * 60_000
#: Presences and claims are news or nothing.
STALE_MS = 10 * 60_000
#: Opened records that are remembered, so that a signature is verified once on each way through a node.
OPENED = 1024
#: Record ids that were refused, and would be refused again.
REFUSED = 65536
#: What a node can sensibly say: an experiment takes seconds at least. What is over it comes by sync.
MESSAGES_A_SECOND = 20.0
#: A node that was away for long tells all at once.
BURST = 1000.0
#: Authors and peers that are told apart.
MOST_PEERS = 4096
#: Wrong messages of one peer, each of which an honest node would have stopped, until it is shut out.
STRIKES = 16
SHUT_OUT_MS = 10 * 60_000
#: No fault of a peer: streams break, clocks differ, bursts happen.
FORGIVEN = frozenset({"stream", "future", "quota"})


class Gate:
    """Checks what comes in and counts what is wrong.

    ``on_rejected`` is told the reason and the peer that gave it to us. ``clock_ms`` is milliseconds since
    1970.
    """

    def __init__(
        self, swarm_id: bytes, clock_ms: Callable[[], int], on_rejected: Callable[[str, str], None]
    ) -> None:
        self._swarm_id = swarm_id
        self._clock_ms = clock_ms
        self._on_rejected = on_rejected
        self._opened: OrderedDict[bytes, Record] = OrderedDict()
        self._refused = Seen(REFUSED)
        self._budgets: OrderedDict[bytes, tuple[float, int]] = OrderedDict()
        self._strikes: OrderedDict[str, int] = OrderedDict()
        self._shut_out: dict[str, int] = {}

    def open(self, data: bytes) -> Record:
        """The record in some bytes. Raises RemoteProtocolError."""
        name = sha256(data).digest()
        record = self._opened.get(name)
        if record is None:
            record = open_record(data, self._swarm_id)
            self._opened[name] = record
            if len(self._opened) > OPENED:
                self._opened.popitem(last=False)
        self._check_time(record)
        return record

    def admit(self, data: bytes, forwarder: str) -> bool:
        """Whether a gossiped message may be delivered and forwarded."""
        if self.shuts_out(forwarder):
            return False
        try:
            record = self.open(data)
            self._spend(record.author)
        except RemoteProtocolError as error:
            self.reject(error, forwarder)
            return False
        return True

    def reject(self, error: RemoteProtocolError, peer: str) -> None:
        """Count what a peer did wrong."""
        if error.reason == "stream":
            return
        self._on_rejected(error.reason, peer)
        if error.reason in FORGIVEN:
            return
        strikes = self._strikes.pop(peer, 0) + 1
        self._strikes[peer] = strikes
        if len(self._strikes) > MOST_PEERS:
            self._strikes.popitem(last=False)
        if strikes >= STRIKES:
            self.shut_out(peer)

    def refuse(self, record_id: str, error: RemoteProtocolError) -> None:
        """Remember a record that will never be right, so that it is not fetched again."""
        if error.reason not in FORGIVEN:
            self._refused.add(record_id)

    def refused(self, record_id: str) -> bool:
        return record_id in self._refused

    def shut_out(self, peer: str) -> None:
        """Hear nothing of a peer for a while."""
        self._strikes.pop(peer, None)
        self._shut_out[peer] = self._clock_ms() + SHUT_OUT_MS
        if len(self._shut_out) > MOST_PEERS:
            del self._shut_out[next(iter(self._shut_out))]

    def shuts_out(self, peer: str) -> bool:
        until_ms = self._shut_out.get(peer, 0)
        if until_ms and until_ms <= self._clock_ms():
            del self._shut_out[peer]
            return False
        return bool(until_ms)

    def _check_time(self, record: Record) -> None:
        said = record.statement
        if not isinstance(said, Result | Note | Verdict | Presence | Claim):
            return
        if said.created_ms > self._clock_ms() + AHEAD_MS:
            raise RemoteProtocolError("future", f"{said.created_ms - self._clock_ms()} ms ahead")
        if record.ephemeral and said.created_ms < self._clock_ms() - STALE_MS:
            raise RemoteProtocolError("future", "old news")

    def _spend(self, author: bytes) -> None:
        """One message of an author's allowance. Raises RemoteProtocolError("quota")."""
        now_ms = self._clock_ms()
        left, since_ms = self._budgets.pop(author, (BURST, now_ms))
        left = min(BURST, left + (now_ms - since_ms) / 1000 * MESSAGES_A_SECOND)
        self._budgets[author] = (max(0.0, left - 1.0), now_ms)
        if len(self._budgets) > MOST_PEERS:
            self._budgets.popitem(last=False)
        if left < 1.0:
            raise RemoteProtocolError("quota", "too many messages of one author")
