"""A peer's result becomes the same commit here, whether its diff came along, lied, or was too large to."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from node.apply import Assets, UnavailableError
from node.bars import Bars
from node.journal import IN_MEMORY, Journal
from node.lineage import GitLineage
from node.records import Records
from protocol.commits import CommitScheme, blob_id
from protocol.diffs import compress
from protocol.records import Record, Result, seal
from protocol.rules import Rules
from protocol.statements import Origin
from tests.node.statements import SWARM, identity, result
from tests.protocol.test_diffs import TRICKS

BASE = b"one\ntwo\nthree\n"
SCHEME = CommitScheme({"train.py": BASE, "program.md": b"+++\n"}, "train.py")
ME, PEER = identity(1), identity(2)
FIRST, SECOND = b"ONE\ntwo\nthree\n", b"ONE\ntwo\nTHREE\n"


class Peers:
    """What peers would give; every commit asked for is noted."""

    def __init__(self, **assets: bytes) -> None:
        self.assets = assets
        self.asked: list[str] = []

    async def fetch(self, commit: str, check: Callable[[bytes], bool]) -> bytes | None:
        self.asked.append(commit)
        found = self.assets.get(commit)
        return found if found is not None and check(found) else None


@pytest.fixture
def lineage(tmp_path: Path) -> Iterator[GitLineage]:
    with closing(GitLineage(tmp_path / "lineage", SCHEME)) as lineage:
        yield lineage


def chain() -> list[Record]:
    first = edit(SCHEME.genesis, BASE, FIRST)
    return [first, edit(commit_of(first), FIRST, SECOND)]


def edit(parent: str, old: bytes, asset: bytes) -> Record:
    return result(PEER, SCHEME, 1.0, parent=parent, old=old, asset=asset, origin=Origin.AGENT)


def commit_of(record: Record) -> str:
    assert record.result is not None
    return record.result.commit


def with_diff(record: Record, diff: bytes) -> Record:
    """The same result, told with another diff."""
    told = record.result
    assert told is not None
    values = {name: getattr(told, name) for name in Result.__slots__}
    return seal(PEER, SWARM, Result(**{**values, "diff": diff}))


def held(*records: Record) -> Records:
    journal = Journal(IN_MEMORY)
    for record in records:
        journal.append(record)
    return Records(journal, Rules(SCHEME, noise=1.0), ME, SWARM)


async def test_a_chain_of_diffs_is_applied_from_genesis(lineage: GitLineage) -> None:
    records, peers = chain(), Peers()
    assets = Assets(held(*reversed(records)).ledger, lineage, "train.py", peers.fetch)
    tip = commit_of(records[1])
    assert assets.held(tip) == SECOND
    assert tip not in lineage
    assert await assets.obtain(tip) == SECOND
    assert lineage.asset(commit_of(records[0])) == FIRST
    assert peers.asked == []


async def test_a_missing_or_wrong_diff_is_made_good_by_a_peer(lineage: GitLineage) -> None:
    records = chain()
    lie = with_diff(records[0], records[1].result.diff if records[1].result else b"")
    peers = Peers(**{commit_of(lie): FIRST})
    told: list[tuple[str, str]] = []
    ledger = held(lie, records[1]).ledger
    assets = Assets(ledger, lineage, "train.py", peers.fetch, lambda *wrong: told.append(wrong))
    assert assets.held(commit_of(lie)) is None
    assert assets.held(commit_of(lie)) is None
    assert told == [("diff", PEER.peer_id)]  # once
    assert await assets.obtain(commit_of(records[1])) == SECOND
    assert peers.asked == [commit_of(lie)]
    assert lineage.asset(commit_of(lie)) == FIRST


@pytest.mark.parametrize("trick", sorted(TRICKS))
def test_a_diff_that_would_change_more_than_the_asset_is_counted(trick: str, lineage: GitLineage) -> None:
    lie = with_diff(chain()[0], compress(TRICKS[trick].encode()))
    told: list[tuple[str, str]] = []
    ledger = held(lie).ledger
    assets = Assets(ledger, lineage, "train.py", Peers().fetch, lambda *wrong: told.append(wrong))
    assert assets.held(commit_of(lie)) is None
    assert told == [("diff", PEER.peer_id)]


async def test_what_nobody_has_is_unavailable(lineage: GitLineage) -> None:
    first, second = chain()
    peers = Peers(**{commit_of(first): b"not these bytes"})
    without = Assets(held(with_diff(first, b"")).ledger, lineage, "train.py", peers.fetch)
    with pytest.raises(UnavailableError, match="no peer has it"):
        await without.obtain(commit_of(first))
    orphan = Assets(held(second).ledger, lineage, "train.py", peers.fetch)
    with pytest.raises(UnavailableError, match="ancestors"):
        await orphan.obtain(commit_of(second))
    assert orphan.held(commit_of(second)) is None


def test_without_a_sandbox_only_my_own_edits_run(caplog: pytest.LogCaptureFixture) -> None:
    mine = result(ME, SCHEME, 1.0, parent=SCHEME.genesis, old=BASE, asset=SECOND, origin=Origin.AGENT)
    theirs = edit(SCHEME.genesis, BASE, FIRST)
    on_theirs = result(ME, SCHEME, 1.0, parent=commit_of(theirs), old=FIRST, asset=BASE, origin=Origin.REBASE)
    rerun = result(ME, SCHEME, 1.0, parent=SCHEME.genesis, old=BASE, asset=FIRST, origin=Origin.REPLICATION)
    records = held(result(PEER, SCHEME, 1.0), mine, theirs, on_theirs, rerun)
    barred = Bars(records, foreign=False).at(0)
    assert SCHEME.genesis not in barred
    assert commit_of(mine) not in barred
    assert commit_of(theirs) in barred
    assert commit_of(on_theirs) in barred
    assert "no sandbox works here" in caplog.text
    assert commit_of(theirs) not in Bars(records, foreign=True).at(0)
    assert blob_id(FIRST) in records.chronicle.blobs


@pytest.mark.parametrize("how", [Origin.REBASE, Origin.RECOMBINE, Origin.TRANSPLANT])
def test_without_a_sandbox_nothing_runs_that_may_hold_a_peers_code(how: Origin) -> None:
    """A home may have run it while it had a sandbox."""
    put_together = result(ME, SCHEME, 1.0, parent=SCHEME.genesis, old=BASE, asset=FIRST, origin=how)
    records = held(result(PEER, SCHEME, 1.0), put_together)
    assert commit_of(put_together) in records.chronicle.proposed
    assert commit_of(put_together) in Bars(records, foreign=False).at(0)
    assert commit_of(put_together) not in Bars(records, foreign=True).at(0)


def test_a_bar_of_an_asset_that_nobody_gave_ends() -> None:
    bars = Bars(held(), foreign=True)
    bars.put("c" * 40, until_ms=100)
    assert "c" * 40 in bars.at(99)
    assert "c" * 40 not in bars.at(100)


def test_records_are_replayed_and_own_sequences_go_on() -> None:
    journal = Journal(IN_MEMORY)
    records = Records(journal, Rules(SCHEME, noise=1.0), ME, SWARM)
    told = result(ME, SCHEME, 1.0, sequence=records.sequence).result
    assert told is not None
    records.tell(told)
    assert records.take(chain()[0])
    assert not records.take(chain()[0])
    again = Records(journal, Rules(SCHEME, noise=1.0), ME, SWARM)
    assert set(again.ledger.ids()) == set(records.ledger.ids())
    assert again.sequence == records.sequence == 1
    assert again.chronicle.total == 2
    assert len(again.chronicle.own_ms) == 1
