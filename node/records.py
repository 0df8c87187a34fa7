"""A node's records: the ledger in memory and the journal on disk, always in step."""

import logging
import time
from collections.abc import Iterator

import trio

from node.journal import MAX_BYTES, Flight, Journal
from node.snapshot import Chronicle
from protocol.errors import RemoteProtocolError
from protocol.identity import Identity
from protocol.ledger import Ledger
from protocol.records import Record, open_record, seal
from protocol.rules import Rules
from protocol.statements import Note, Result

log = logging.getLogger(__name__)


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
        self._full = False
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
        if self.journal.size + len(record.wire) > MAX_BYTES and self.ledger.get(record.id) is None:
            self._warn_full()
            raise RemoteProtocolError("full", f"the journal holds {MAX_BYTES >> 20} MiB already")
        if not self.ledger.add(record):
            return False
        self.journal.append(record)
        self._follow(record)
        return True

    def tell(self, statement: Result | Note, flight: Flight | None = None) -> Record:
        """Sign and keep a statement of mine, with the end of its experiment; then it may be published."""
        record = seal(self.identity, self._swarm_id, statement)
        self.journal.append_own(record, flight)
        self.ledger.add(record)
        self._follow(record)
        return record

    def _warn_full(self) -> None:
        if not self._full:
            self._full = True
            log.warning("the journal holds %d MiB: no more records of others are kept", MAX_BYTES >> 20)

    def _follow(self, record: Record) -> None:
        self.chronicle.add(record)
        if record.author == self.me:
            self._sequence = max(self._sequence, _sequence_of(record) + 1)
        self.changed.send()

    def _replay(self) -> None:
        begun = time.monotonic()
        for wire in self.journal.wires():
            try:
                record = open_record(wire, self._swarm_id)
                self.ledger.add(record)
            except RemoteProtocolError as error:
                log.warning("a record in the journal is skipped: %s", error)
                continue
            self.chronicle.add(record)
        if len(self.ledger):
            log.info("%d records read in %.1f s", len(self.ledger), time.monotonic() - begun)


def _sequence_of(record: Record) -> int:
    said = record.statement
    return said.sequence if isinstance(said, Result | Note) else -1
