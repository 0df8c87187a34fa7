"""Members of a swarm for tests: real swarms over any transport, whose store is a dictionary."""

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import trio

from gossip.swarm import Swarm
from gossip.transport import Transport
from protocol.errors import RemoteProtocolError
from protocol.identity import Identity
from protocol.records import Note, Presence, Record, seal
from protocol.statements import Result

SWARM_ID = bytes(range(32))
#: The clock of a test on virtual time begins here.
EPOCH_MS = 1_800_000_000_000


def identity(number: int) -> Identity:
    return Identity(number.to_bytes(32, "big"))


def virtual_ms() -> int:
    return EPOCH_MS + round(trio.current_time() * 1000)


def real_ms() -> int:
    return time.time_ns() // 1_000_000


class Member:
    """One node: ``rejected`` counts by reason, ``came`` is the time each record came."""

    def __init__(
        self,
        number: int,
        transport: Transport,
        known: Iterable[str] = (),
        *,
        swarm_id: bytes = SWARM_ID,
        clock_ms: Callable[[], int] = virtual_ms,
        packed: bytes | None = None,
    ) -> None:
        self.identity = identity(number)
        self.transport = transport
        self.records: dict[str, Record] = {}
        self.came: dict[str, float] = {}
        self.assets: dict[str, bytes] = {}
        self.rejected: Counter[str] = Counter()
        self.forbidden: set[str] = set()
        self._swarm_id = swarm_id
        self._clock_ms = clock_ms
        self._packed = packed
        self.swarm = Swarm(
            transport, self, swarm_id, self.identity, clock_ms=clock_ms,
            on_rejected=lambda reason, peer: self.rejected.update([reason]), presence=self._presence,
            rng=random.Random(number), known=known,
        )  # fmt: skip

    @property
    def address(self) -> str:
        return self.transport.addresses()[0]

    def note(self, number: int) -> Record:
        """A new record of this member, in its store and not yet published."""
        record = seal(self.identity, self._swarm_id, Note(self._clock_ms(), number, f"note {number}", ()))
        return self.keep(record)

    def keep(self, record: Record) -> Record:
        self.records[record.id] = record
        self.came[record.id] = trio.current_time()
        return record

    # the swarm's store

    def ids(self) -> Collection[str]:
        return self.records.keys()

    def get(self, record_id: str) -> bytes | None:
        record = self.records.get(record_id)
        return None if record is None else record.wire

    async def ingest(self, record: Record, source: str) -> bool:
        if isinstance(record.statement, Note) and record.statement.text in self.forbidden:
            raise RemoteProtocolError("commit", "against this member's rules")
        if record.id in self.records:
            return False
        self.keep(record)
        if isinstance(record.statement, Result):
            self.assets.setdefault(record.statement.commit, b"asset")
        return True

    def asset(self, commit: str) -> bytes | None:
        return self.assets.get(commit)

    def program(self) -> bytes | None:
        return self._packed

    def hello(self) -> Mapping[str, Any]:
        return {"swarm_id": self._swarm_id, "name": "bees", "founder": None, "version": "1"}

    def _presence(self) -> Presence:
        return Presence(
            created_ms=self._clock_ms(),
            addresses=tuple(self.transport.addresses()),
            tier="cpu",
            version="1",
            metrics_address="",
            records=len(self.records),
            peers=len(self.transport.peers()),
            experiments=0,
        )


def agree(members: Iterable[Member]) -> bool:
    return len({frozenset(member.records) for member in members}) == 1
