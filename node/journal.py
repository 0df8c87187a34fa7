"""What a node must not forget, in one SQLite file: append first, publish then.

A node's state is this journal, replayed. Own records are on the disk before anybody hears of them; a record
and the end of its experiment are one transaction, so that after kill -9 at any instant each experiment in
flight is run again under the same (commit, origin, index), and none is told in two ways.

SQLite in WAL mode with synchronous=NORMAL survives the death of the process; FULL, which is taken for our own
statements, also survives the loss of power: https://www.sqlite.org/pragma.html#pragma_synchronous
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from protocol import codec
from protocol.errors import UserError
from protocol.records import Note, Record, Result, Verdict
from protocol.statements import Origin

#: Raised when an older waggle could not read what we write.
VERSION = 1
#: A reader waits this long for a writer's transaction, each of which takes milliseconds.
BUSY_SECONDS = 10.0
#: Of records: a million with their diffs. What others say beyond is not kept, so that none can fill the disk.
MAX_BYTES = 4 << 30
#: Of one author's records: some 300,000 experiments. Kept are those that come first by (sequence, id), and not those
#: that came first, so that nodes keep the same and need not offer each other the rest for ever.
AUTHOR_BYTES = MAX_BYTES // 16
#: Peers that are worth a try after a restart; the longest unheard are forgotten.
MAX_PEERS = 200
IN_MEMORY = ":memory:"

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    author BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    wire BLOB NOT NULL
);
CREATE INDEX records_by_author ON records (author, sequence, id);
CREATE TABLE flights (
    "commit" TEXT NOT NULL, origin TEXT NOT NULL, "index" INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY ("commit", origin, "index")
);
CREATE TABLE rebases ("commit" TEXT PRIMARY KEY, onto TEXT NOT NULL, outcome TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE peers (peer TEXT PRIMARY KEY, address TEXT NOT NULL, heard_ms INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Flight:
    """An experiment that was begun and not yet told; its asset is in the lineage under ``commit``."""

    commit: str
    parent: str | None
    origin: Origin
    index: int
    summary: str = ""
    hypothesis: str = ""


class Journal:
    """One node's journal. Not safe to use from several threads at once.

    ``read_only`` opens one that a running node may hold. Raises UserError for a file that is none of ours.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        self._path = path
        self._sizes: Counter[bytes] | None = None
        try:
            self._db = _connect(path, read_only)
            self._prepare(read_only)
        except sqlite3.Error as error:
            raise UserError(f"cannot open the journal {path}: {error}") from error

    def close(self) -> None:
        self._db.close()

    # meta

    def meta(self, key: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def set_meta(self, key: str, value: bytes) -> None:
        with self._durably():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @property
    def swarm_id(self) -> bytes | None:
        return self.meta("swarm_id")

    @property
    def program(self) -> bytes | None:
        """The packed program (``protocol.manifest.pack``)."""
        return self.meta("program")

    def bind(self, swarm_id: bytes, program: bytes) -> None:
        """This journal is of that swarm from now on. Raises UserError where it is of another one."""
        held = self.swarm_id
        if held is not None and held != swarm_id:
            raise UserError(
                f"{self._path} belongs to swarm {held.hex()[:12]}, the program makes swarm"
                f" {swarm_id.hex()[:12]}: give another --home"
            )
        if held is None:
            self.set_meta("program", program)
            self.set_meta("swarm_id", swarm_id)

    # records

    def append(self, record: Record) -> bool:
        """Keep a peer's record; False where it is held."""
        with self._db:
            return self._insert(record)

    @property
    def size(self) -> int:
        """Bytes of all records, as they were sent."""
        return self.sizes.total()

    @property
    def sizes(self) -> Counter[bytes]:
        """The same, by author."""
        if self._sizes is None:
            found = self._db.execute("SELECT author, sum(length(wire)) FROM records GROUP BY author")
            self._sizes = Counter(dict(found))
        return self._sizes

    def last_within(self, author: bytes, most: int) -> tuple[int, str]:
        """(sequence, id) of an author's last record of those before which there are fewer than ``most`` bytes."""
        sequence, name = self._db.execute(_LAST_WITHIN, (author, most)).fetchone()
        return sequence, name

    def trim(self, author: bytes, most: int) -> int:
        """Drop what comes after ``last_within``; how many that were."""
        with self._db:
            dropped = self._db.execute(_TRIM, (author, *self.last_within(author, most))).rowcount
        self._sizes = None
        return dropped

    def append_own(self, record: Record, flight: Flight | None = None) -> None:
        """Keep a statement of ours for good, and with it the end of its experiment."""
        with self._durably():
            self._insert(record)
            if flight is not None:
                self._db.execute(_END, (flight.commit, flight.origin.value, flight.index))

    def wires(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """All records beyond a position, in order of arrival, each with its own."""
        yield from self._db.execute("SELECT position, wire FROM records WHERE position > ? ORDER BY position", (after,))

    def get(self, record_id: str) -> bytes | None:
        row = self._db.execute("SELECT wire FROM records WHERE id = ?", (record_id,)).fetchone()
        return None if row is None else bytes(row[0])

    def __len__(self) -> int:
        count = self._db.execute("SELECT count(*) FROM records").fetchone()[0]
        assert isinstance(count, int)
        return count

    def next_sequence(self, author: bytes) -> int:
        """One above all that ``author`` has used."""
        (last,) = self._db.execute("SELECT max(sequence) FROM records WHERE author = ?", (author,)).fetchone()
        return 0 if last is None else last + 1

    def _insert(self, record: Record) -> bool:
        row = (record.id, record.author, sequence_of(record), record.wire)
        done = self._db.execute(
            "INSERT OR IGNORE INTO records (id, author, sequence, wire) VALUES (?, ?, ?, ?)", row
        )
        if done.rowcount > 0 and self._sizes is not None:
            self._sizes[record.author] += len(record.wire)
        return done.rowcount > 0

    # experiments in flight

    def begin(self, flight: Flight) -> None:
        """From now until it is told or dropped, this experiment is resumed after a restart."""
        body = codec.encode(asdict(flight))
        with self._durably():
            self._db.execute(
                "INSERT OR REPLACE INTO flights VALUES (?, ?, ?, ?)",
                (flight.commit, flight.origin.value, flight.index, body),
            )

    def drop(self, flight: Flight) -> None:
        """It can't be run any more, and nobody has heard of it."""
        with self._durably():
            self._db.execute(_END, (flight.commit, flight.origin.value, flight.index))

    def flights(self) -> list[Flight]:
        rows = self._db.execute("SELECT body FROM flights ORDER BY rowid").fetchall()
        values = (codec.decode(bytes(body)) for (body,) in rows)
        return [Flight(**{**value, "origin": Origin(value["origin"])}) for value in values]

    # rebases

    def rebased(self, commit: str, onto: str, outcome: str) -> None:
        """Remember that our win ``commit`` was carried over, or could not be: each is tried once."""
        with self._durably():
            self._db.execute("INSERT OR REPLACE INTO rebases VALUES (?, ?, ?)", (commit, onto, outcome))

    def rebases(self) -> dict[str, str]:
        """Commit to outcome."""
        return dict(self._db.execute('SELECT "commit", outcome FROM rebases').fetchall())

    # peers

    def remember(self, peer: str, address: str, heard_ms: int) -> None:
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", (peer, address, heard_ms))
            self._db.execute(_FORGET, (MAX_PEERS,))

    def peers(self) -> list[str]:
        """Remembered addresses, the latest heard first."""
        return [row[0] for row in self._db.execute("SELECT address FROM peers ORDER BY heard_ms DESC")]

    # how it is kept

    @contextmanager
    def _durably(self) -> Iterator[None]:
        """A transaction that is on the disk when the block has ended."""
        self._db.execute("PRAGMA synchronous = FULL")
        try:
            with self._db:
                yield
        finally:
            self._db.execute("PRAGMA synchronous = NORMAL")

    def _prepare(self, read_only: bool) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise UserError(f"{self._path} was written by a newer waggle: upgrade this one")
        if read_only:
            return
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        if version == 0:
            # one script, one transaction: a death in its middle leaves an empty file
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")


_LAST_WITHIN = """
SELECT sequence, id FROM (
    SELECT sequence, id, sum(length(wire)) OVER (ORDER BY sequence, id) - length(wire) AS before
    FROM records WHERE author = ?
) WHERE before < ? ORDER BY sequence DESC, id DESC LIMIT 1
"""
_TRIM = "DELETE FROM records WHERE author = ? AND (sequence, id) > (?, ?)"
_END = 'DELETE FROM flights WHERE "commit" = ? AND origin = ? AND "index" = ?'
_FORGET = "DELETE FROM peers WHERE peer NOT IN (SELECT peer FROM peers ORDER BY heard_ms DESC LIMIT ?)"


def sequence_of(record: Record) -> int:
    """An author's own number of a record; -1 for a kind that we do not know."""
    said = record.statement
    return said.sequence if isinstance(said, Result | Note | Verdict) else -1


def _connect(path: Path | str, read_only: bool) -> sqlite3.Connection:
    if path == IN_MEMORY:
        return sqlite3.connect(IN_MEMORY)
    mode = "ro" if read_only else "rwc"
    return sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode={mode}", uri=True, timeout=BUSY_SECONDS)
