"""A node's records: the ledger in memory and the journal on disk, always in step."""

import logging
import time
from collections.abc import Iterator

import trio

from node.journal import AUTHOR_BYTES, MAX_BYTES, Flight, Journal, sequence_of
from node.snapshot import Chronicle
from protocol.errors import RemoteProtocolError
from protocol.identity import Identity, peer_id
from protocol.ledger import Ledger
from protocol.records import Record, open_record, seal
from protocol.rules import Rules
from protocol.statements import Note, Result, Verdict

log = logging.getLogger(__name__)

#: Tiers are peers' word, and what a record costs grows with their number. A node is of one, or of a few in its life.
TIERS_AN_AUTHOR = 8
#: Of all authors: more than kinds of machines that a swarm has; with so many a step is chosen within two milliseconds.
MAX_TIERS = 1000


class Signal:
    """Wakes all who wait for it; nothing is missed by who looks and then waits without an await between."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def send(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def wait(self, seconds: float) -> None:
        """Until the next ``send``, at most ``seconds``."""
        with trio.move_on_after(seconds):
            await self._event.wait()


class Records:
    """All that a node holds, from its journal's beginning. ``changed`` is sent with each new record."""

    def __init__(self, journal: Journal, rules: Rules, identity: Identity, swarm_id: bytes) -> None:
        self.journal = journal
        self.identity = identity
        self.ledger = Ledger(rules)
        self.chronicle = Chronicle(identity.public_key)
        self.changed = Signal()
        self._read = 0
        self._full = False
        self._last: dict[bytes, tuple[int, str]] = {}
        self._tiers: dict[bytes, set[str]] = {}
        self._swarm_id = swarm_id
        self._replay()
        self._sequence = journal.next_sequence(identity.public_key)

    @property
    def me(self) -> bytes:
        return self.identity.public_key

    @property
    def sequence(self) -> int:
        """What my next statement must carry."""
        return self._sequence

    def latest(self) -> Iterator[Record]:
        """All records, the latest to arrive first."""
        return reversed(list(self.ledger.records()))

    def take(self, record: Record) -> bool:
        """Keep a record that came from a peer; False if it is held.

        Raises RemoteProtocolError where it breaks a rule, or there is no room.
        """
        if self.ledger.get(record.id) is None:
            self._check_room(record)
            self._check_tier(record)
        if not self.ledger.add(record):
            return False
        self.journal.append(record)
        self._follow(record)
        return True

    def tell(self, statement: Result | Note | Verdict, flight: Flight | None = None) -> Record:
        """Sign and keep a statement of mine, with the end of its experiment; then it may be published."""
        record = seal(self.identity, self._swarm_id, statement)
        self.journal.append_own(record, flight)
        self.ledger.add(record)
        self._follow(record)
        return record

    def _check_room(self, record: Record) -> None:
        """Raises RemoteProtocolError("full") for what comes after an author's quota, or does not fit at all."""
        author, size = record.author, len(record.wire)
        held = self.journal.sizes[author]
        if held >= AUTHOR_BYTES:
            if author not in self._last:
                self._last[author] = self.journal.last_within(author, AUTHOR_BYTES)
                log.warning("%s has said %d MiB: no more of it is kept", record.peer_id, AUTHOR_BYTES >> 20)
            # What comes before the last is kept, and at the next start drives out as much behind it.
            if (sequence_of(record), record.id) > self._last[author] or held + size > 2 * AUTHOR_BYTES:
                raise RemoteProtocolError("full", f"{AUTHOR_BYTES >> 20} MiB of this author are held already")
        if self.journal.size + size > MAX_BYTES:
            if not self._full:
                self._full = True
                log.warning("the journal holds %d MiB: no more records of others are kept", MAX_BYTES >> 20)
            raise RemoteProtocolError("full", f"the journal holds {MAX_BYTES >> 20} MiB already")

    def _check_tier(self, record: Record) -> None:
        """Raises RemoteProtocolError("full") for a tier beyond an author's or beyond all."""
        if record.result is None or record.result.tier in (theirs := self._tiers.get(record.author, set())):
            return
        if len(theirs) >= TIERS_AN_AUTHOR:
            raise RemoteProtocolError("full", f"this author has been in {TIERS_AN_AUTHOR} tiers already")
        known = self.ledger.tiers()
        if len(known) >= MAX_TIERS and record.result.tier not in known:
            raise RemoteProtocolError("full", f"{MAX_TIERS} tiers are known already")

    def _note(self, record: Record) -> None:
        self.chronicle.add(record)
        if record.result is not None:
            self._tiers.setdefault(record.author, set()).add(record.result.tier)

    def _follow(self, record: Record) -> None:
        self._note(record)
        if record.author == self.me:
            self._sequence = max(self._sequence, sequence_of(record) + 1)
        self.changed.send()

    def catch_up(self) -> None:
        """Take what another process, which holds the home, has written since."""
        for position, wire in self.journal.wires(after=self._read):
            self._read = position
            try:
                record = open_record(wire, self._swarm_id)
                self.ledger.add(record)
            except RemoteProtocolError as error:
                log.warning("a record in the journal is skipped: %s", error)
                continue
            self._note(record)

    def _replay(self) -> None:
        begun = time.monotonic()
        for author, size in list(self.journal.sizes.items()):
            if size > AUTHOR_BYTES and author != self.me:
                dropped = self.journal.trim(author, AUTHOR_BYTES)
                log.warning("%d records of %s are over its quota", dropped, peer_id(author))
        self.catch_up()
        if len(self.ledger):
            log.info("%d records read in %.1f s", len(self.ledger), time.monotonic() - begun)
