"""The ledger in memory and the journal on disk, in step and bounded."""

import logging
from pathlib import Path

import pytest

from node import records as records_module
from node.journal import Journal
from node.records import Records
from protocol.commits import CommitScheme
from protocol.errors import RemoteProtocolError
from protocol.rules import Rules
from protocol.statements import Note
from tests.node.statements import SWARM, identity, result

SCHEME = CommitScheme({"a.json": b"{}\n"}, "a.json")
ME, PEER = identity(1), identity(2)


def held(journal: Journal) -> Records:
    return Records(journal, Rules(SCHEME, noise=1.0), ME, SWARM)


def test_the_journal_counts_its_bytes(tmp_path: Path) -> None:
    journal, sizes = Journal(tmp_path / "journal.db"), 0
    for number in range(5):
        record = result(PEER, SCHEME, 1.0, index=number, sequence=number)
        sizes += len(record.wire)
        journal.append(record)
        journal.append(record)
        assert journal.size == sizes
    journal.close()
    assert Journal(tmp_path / "journal.db").size == sizes


def test_a_full_journal_takes_our_own_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    records = held(Journal(tmp_path / "journal.db"))
    first, *others = [result(PEER, SCHEME, 1.0, index=number, sequence=number) for number in range(4)]
    assert records.take(first)
    monkeypatch.setattr(records_module, "MAX_BYTES", records.journal.size + len(first.wire) // 2)
    with caplog.at_level(logging.WARNING):
        for one in others:
            with pytest.raises(RemoteProtocolError) as caught:
                records.take(one)
            assert caught.value.reason == "full"
    assert len(caplog.records) == 1, "it is said once"
    assert not records.take(first), "what is held stays held"
    note = records.tell(Note(1000, 0, "my own", ()))
    assert set(records.ledger.ids()) == {first.id, note.id}
    assert len(records.journal) == 2
