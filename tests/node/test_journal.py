"""What a node must not forget survives whatever ends it."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from node.home import Home
from node.journal import IN_MEMORY, VERSION, Flight, Journal
from protocol.commits import CommitScheme
from protocol.errors import UserError
from protocol.records import open_record
from protocol.statements import Origin
from tests.node.statements import SWARM, identity, result

SCHEME = CommitScheme({"a.json": b"{}\n"}, "a.json")
FLIGHT = Flight("c" * 40, "d" * 40, Origin.AGENT, 0, "summary", "hypothesis")
ME, PEER = identity(1), identity(2)


def test_records_come_back_in_order_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path)
    records = [result(PEER, SCHEME, float(n), index=n, sequence=n) for n in range(3)]
    assert [journal.append(record) for record in records] == [True] * 3
    assert not journal.append(records[0])
    journal.close()
    again = Journal(path)
    assert [open_record(wire, SWARM) for _, wire in again.wires()] == records
    assert again.get(records[1].id) == records[1].wire
    assert again.get("0" * 64) is None
    assert len(again) == 3


def test_sequences_go_on_after_the_highest_used() -> None:
    journal = Journal(IN_MEMORY)
    assert journal.next_sequence(ME.public_key) == 0
    journal.append_own(result(ME, SCHEME, 1.0, sequence=0))
    journal.append(result(PEER, SCHEME, 1.0, sequence=70))
    assert journal.next_sequence(ME.public_key) == 1
    journal.append(result(ME, SCHEME, 1.0, index=1, sequence=9))  # ours, come back from a peer
    assert journal.next_sequence(ME.public_key) == 10


def test_a_flight_ends_with_its_record(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    other = Flight("e" * 40, None, Origin.BASELINE, 1)
    journal.begin(FLIGHT)
    journal.begin(FLIGHT)  # resumed
    journal.begin(other)
    assert sorted(journal.flights(), key=lambda flight: flight.commit) == [FLIGHT, other]
    journal.append_own(result(ME, SCHEME, 1.0), FLIGHT)
    assert journal.flights() == [other]
    journal.drop(other)
    assert journal.flights() == []


def test_remembered_peers_are_bounded_and_latest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.journal.MAX_PEERS", 2)
    journal = Journal(IN_MEMORY)
    for number, peer in enumerate("abc"):
        journal.remember(peer, f"/ip4/127.0.0.1/tcp/{number}/p2p/{peer}", number)
    assert [address[-1] for address in journal.peers()] == ["c", "b"]


def test_each_rebase_is_remembered() -> None:
    journal = Journal(IN_MEMORY)
    journal.rebased("a" * 40, "b" * 40, "conflict")
    assert journal.rebases() == {"a" * 40: "conflict"}


def test_a_home_of_another_swarm_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.bind(SWARM, b"program")
    journal.bind(SWARM, b"program")
    assert journal.program == b"program"
    with pytest.raises(UserError, match="belongs to swarm"):
        journal.bind(b"t" * 32, b"other")


def test_a_newer_journal_and_no_journal_are_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(UserError, match="newer waggle"):
        Journal(path)
    (tmp_path / "text").write_text("not a database, but a text that is long enough to be one" * 20)
    with pytest.raises(UserError, match="cannot open the journal"):
        Journal(tmp_path / "text")
    with pytest.raises(UserError, match="cannot open the journal"):
        Journal(tmp_path / "nowhere", read_only=True)


def test_it_is_readable_while_a_node_writes(tmp_path: Path) -> None:
    writer = Journal(tmp_path / "journal.db")
    reader = Journal(tmp_path / "journal.db", read_only=True)
    writer.append(result(PEER, SCHEME, 1.0))
    assert len(reader) == 1
    with pytest.raises(sqlite3.OperationalError):
        reader.append(result(PEER, SCHEME, 1.0, index=1))


WRITER = """
import sys
from pathlib import Path
from node.journal import Flight, Journal
from protocol.commits import CommitScheme
from protocol.statements import Origin
from tests.node.statements import identity, result
scheme = CommitScheme({"a.json": b"{}\\n"}, "a.json")
me = identity(1)
journal = Journal(Path(sys.argv[1]))
for index in range(10**6):
    flight = Flight(scheme.genesis, None, Origin.BASELINE, index)
    journal.begin(flight)
    record = result(me, scheme, 1.0, index=index % 64, sequence=journal.next_sequence(me.public_key))
    journal.append_own(record, flight)
    print(record.id, flush=True)
"""


def test_kill_9_loses_nothing_that_was_published(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        published = [writer.stdout.readline().decode().strip() for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        published += [line.decode().strip() for line in writer.stdout if line.endswith(b"\n")]
    journal = Journal(path)
    assert all(journal.get(record_id) for record_id in published)
    in_flight = journal.flights()
    assert len(in_flight) <= 1
    assert journal.next_sequence(ME.public_key) == len(journal)
    if in_flight:  # begun and not told: the next to run
        assert in_flight[0].index == len(journal)


def test_one_node_at_a_time_works_on_a_home(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    assert not home.running
    home.create()
    with home.locked():
        home.announce({"http": "127.0.0.1:1"})
        assert home.running
        assert home.announced() == {"http": "127.0.0.1:1"}
        with pytest.raises(UserError, match="already running"), home.locked():
            pass
    assert not home.running
    assert home.announced() is None


def test_the_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    made = home.identity()
    assert home.identity() == made
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600
    (tmp_path / "identity").write_text("zz")
    with pytest.raises(UserError, match="not a key"):
        home.identity()
