"""The ledger in memory and the journal on disk, in step and bounded."""

import contextlib
import logging
import random
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

import pytest

from node import records as records_module
from node.journal import Journal, sequence_of
from node.records import Records
from protocol import codec
from protocol.commits import CommitScheme
from protocol.errors import RemoteProtocolError
from protocol.identity import Identity
from protocol.records import Record
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


def test_nobody_names_tiers_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a record grows with their number; what is of a tier that is known is taken all the same."""
    monkeypatch.setattr(records_module, "TIERS_AN_AUTHOR", 3)
    monkeypatch.setattr(records_module, "MAX_TIERS", 4)
    records = held(Journal(tmp_path / "journal.db"))

    def refused(who: Identity, tier: str, index: int = 0) -> str:
        try:
            records.take(result(who, SCHEME, 1.0, tier=tier, index=index))
        except RemoteProtocolError as error:
            return str(error)
        return ""

    assert [refused(PEER, tier) for tier in "abc"] == ["", "", ""]
    assert "3 tiers" in refused(PEER, "d")
    assert refused(PEER, "a", 1) == ""
    other = identity(3)
    assert refused(other, "d") == ""
    assert refused(other, "e").startswith("full: 4 tiers are known")
    assert refused(other, "a") == ""
    records.journal.close()
    records = held(Journal(tmp_path / "journal.db"))  # also after a restart
    assert "3 tiers" in refused(PEER, "d")
    own = result(ME, SCHEME, 1.0, tier="mine")
    assert own.result is not None
    records.tell(own.result)
    assert records.ledger.tiers() == ["a", "b", "c", "d", "mine"]


def test_of_one_author_the_same_is_kept_whatever_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes hear a flood in two orders, and sync until neither takes anything of the other's."""
    flood = [result(PEER, SCHEME, 1.0, index=number, sequence=number // 2) for number in range(40)]
    other = result(identity(3), SCHEME, 1.0)
    quota = 7 * len(flood[0].wire)
    monkeypatch.setattr(records_module, "AUTHOR_BYTES", quota)
    ordered = sorted(flood, key=lambda one: (sequence_of(one), one.id))
    before = accumulate((len(one.wire) for one in ordered), initial=0)
    wanted = {one.id for one, size in zip(ordered, before, strict=False) if size < quota}

    def node(name: str, heard: Iterable[Record]) -> Records:
        records = held(Journal(tmp_path / name))
        for one in (*heard, other):
            with contextlib.suppress(RemoteProtocolError):
                records.take(one)
        records.journal.close()
        return held(Journal(tmp_path / name))

    shuffled = flood[:]
    random.Random(1).shuffle(shuffled)
    for name, heard in (("up", flood), ("down", flood[::-1]), ("any", shuffled)):
        once = node(name, heard)
        assert once.journal.sizes[PEER.public_key] < quota + codec.MAX_ENVELOPE_BYTES
        again = node(name, flood)  # what others still offer
        assert set(again.ledger.ids()) == wanted | {other.id}, name


def test_what_we_say_ourselves_has_no_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "AUTHOR_BYTES", 1)
    records = held(Journal(tmp_path / "journal.db"))
    told = [records.tell(Note(1000, number, "my own", ())) for number in range(3)]
    records.journal.close()
    assert set(held(Journal(tmp_path / "journal.db")).ledger.ids()) == {one.id for one in told}
