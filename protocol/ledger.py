"""The set of records, and what follows from it (DESIGN section 5).

Merging ledgers is set union: what follows depends on the set alone, to the last bit, never on the order of
arrival. Values are in loss orientation, lower is better; where the program maximises, losses are negated
metrics.
"""

import statistics
from collections.abc import Iterable, KeysView, Mapping, Sequence
from dataclasses import dataclass, field

from protocol.errors import RemoteProtocolError
from protocol.records import EPHEMERAL, Record
from protocol.rules import Rules
from protocol.standing import Average, Candidate, Run, Standing, Tally
from protocol.statements import FIRST_RUNS, Origin, Result, Verdict, run_seed
from protocol.tier import Tier

__all__ = ["Candidate", "Ledger", "Run", "Standing"]


@dataclass(slots=True)
class _Entry:
    """A commit that the ledger holds results of."""

    candidate: Candidate
    runs: list[Run] = field(default_factory=list)
    #: each author's largest claim of net lines: the price is in doubt against the author
    lines: dict[bytes, int] = field(default_factory=dict)
    #: generations from genesis; None while an ancestor is missing
    depth: int | None = None
    #: the run by which it was told first
    told: Run | None = None


def _when_told(run: Run) -> tuple[bool, int, str]:
    return run.result.origin not in FIRST_RUNS, run.result.created_ms, run.record_id


class Ledger:
    """All records that a node holds. Not thread-safe; a question may settle what earlier records changed."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._records: dict[str, Record] = {}
        self._entries: dict[str, _Entry] = {}
        #: also of commits not held yet
        self._children: dict[str, list[str]] = {}
        self._verdicts: dict[str, tuple[int, bool]] = {}
        self._tiers: dict[str, Tier] = {}

    # records

    def add(self, record: Record) -> bool:
        """Take in a record that ``open_record`` or ``seal`` returned; False if it is already held.

        Raises RemoteProtocolError where its commit id does not follow from parent and asset, where its seed
        is not the prescribed one, or where it is of a kind that is never stored. The ledger is then
        unchanged.
        """
        if record.id in self._records:
            return False
        if record.kind in EPHEMERAL:
            raise RemoteProtocolError("malformed", "presence and claims are not for the ledger")
        if isinstance(record.statement, Result):
            self._check(record.author, record.statement)
            self._records[record.id] = record
            self._enter(record, record.statement)
        else:
            self._records[record.id] = record
            if isinstance(record.statement, Verdict) and record.author == self.rules.founder:
                self._judge(record.statement)
        return True

    def __contains__(self, record_id: object) -> bool:
        return record_id in self._records

    def __len__(self) -> int:
        return len(self._records)

    def ids(self) -> KeysView[str]:
        return self._records.keys()

    def get(self, record_id: str) -> Record | None:
        return self._records.get(record_id)

    def records(self) -> Iterable[Record]:
        """In order of arrival."""
        return self._records.values()

    # candidates

    def candidate(self, commit: str) -> Candidate | None:
        entry = self._entries.get(commit)
        return None if entry is None else entry.candidate

    def commits(self) -> KeysView[str]:
        """Every commit with a result, in order of arrival."""
        return self._entries.keys()

    def children(self, commit: str) -> Sequence[str]:
        return tuple(self._children.get(commit, ()))

    def known(self, commit: str) -> bool:
        """Whether the ledger holds results of this commit and of all its ancestors."""
        entry = self._entries.get(commit)
        return entry is not None and entry.depth is not None

    def missing(self) -> set[str]:
        """Parents that some candidate names and of which no result is held."""
        return {parent for parent in self._children if parent not in self._entries}

    def lineage(self, commit: str) -> list[str]:
        """Genesis, …, ``commit``; empty while an ancestor is missing."""
        if not self.known(commit):
            return []
        line = []
        here: str | None = commit
        while here is not None:
            line.append(here)
            here = self._entries[here].candidate.parent
        return line[::-1]

    def runs(self, commit: str, tier: str | None = None) -> Sequence[Run]:
        """All results of a commit, those that do not count included, by author, origin and index."""
        entry = self._entries.get(commit)
        runs = () if entry is None else entry.runs
        wanted = (run for run in runs if tier is None or run.result.tier == tier)
        return sorted(
            wanted, key=lambda run: (run.author, run.result.origin, run.result.index, run.record_id)
        )

    def told(self, commit: str) -> Run | None:
        """The run by which a candidate was told first: one that made it, where there is any; the earliest.

        Clocks are peers' word, and so is this.
        """
        entry = self._entries.get(commit)
        return None if entry is None else entry.told

    # what follows from them

    def tiers(self) -> list[str]:
        return sorted(self._tiers)

    def sigma(self, tier: str) -> float:
        """The tier's noise: the standard deviation of honest runs of one candidate, in metric units."""
        return self._tier(tier).sigma

    def yardstick(self, tier: str) -> float:
        """σ as the rules' comparisons use it: rounded up to a coarse grid."""
        return self._tier(tier).yard

    def averages(self, commit: str, tier: str) -> Mapping[bytes, Average]:
        """Each author's word on a candidate."""
        return self._tier(tier).averages(commit)

    def tally(self, commit: str, tier: str) -> Tally:
        """What those come to: value, and whose runs count in it."""
        return self._tier(tier).tally(commit)

    def shared(self, author: bytes, tier: str) -> Iterable[str]:
        """The commits of which ``author`` and another reported runs."""
        return self._tier(tier).shared(author)

    def next_index(self, commit: str, tier: str, author: bytes, origin: Origin) -> int:
        """The index that the author's next such run must have."""
        return self._tier(tier).next_index(commit, author, origin)

    def latest_ms(self, commit: str, tier: str) -> int:
        """When, by its author's clock, the latest result of the candidate was made; 0 without any."""
        return self._tier(tier).latest_ms(commit)

    def value(self, commit: str, tier: str) -> float | None:
        """Rule 2; None also while an ancestor is missing."""
        standing = self.standing(commit, tier)
        return None if standing is None else standing.value

    def standing(self, commit: str, tier: str) -> Standing | None:
        """Rules 2 to 5; None where nobody ran it (or a descendant) in the tier, or while an ancestor is
        missing.
        """
        return self._tier(tier).standing(commit)

    def proven_ancestor(self, commit: str, tier: str) -> Standing | None:
        """The nearest proven commit of a lineage, itself included."""
        foundation = self._tier(tier).foundation(commit)
        return None if foundation is None else self.standing(foundation.proven, tier)

    def promising(self, tier: str) -> list[str]:
        """Promising, not accepted and not vetoed; best value first, as the other lists."""
        return self._tier(tier).promising()

    def disputed(self, tier: str) -> list[str]:
        """Candidates on which authors disagree without a majority; by commit id."""
        return self._tier(tier).disputed()

    def accepted(self, tier: str) -> list[str]:
        return self._tier(tier).accepted()

    def proven(self, tier: str) -> list[str]:
        """Best mean of confirmations first."""
        return self._tier(tier).proven()

    def incumbent(self, tier: str) -> Standing | None:
        """The accepted candidate of best value, ties by commit id; None while none has a value."""
        best = self._tier(tier).incumbent()
        return best if best is not None and best.value is not None else None

    def proven_best(self, tier: str) -> Standing | None:
        """The proven candidate with the best mean of confirmations; None before genesis has one."""
        best = self._tier(tier).proven_best()
        return best if best is not None and best.confirmed is not None else None

    def global_best(self) -> Standing | None:
        """The best incumbent over all tiers."""
        incumbents = [best for tier in self._tiers if (best := self.incumbent(tier)) is not None]
        return min(incumbents, key=lambda best: (best.value, best.commit, best.tier), default=None)

    def to_metric(self, loss: float) -> float:
        """A loss in the program's own orientation (its own inverse)."""
        return -loss if self.rules.maximize else loss

    # entering records

    def _check(self, author: bytes, result: Result) -> None:
        if result.seed != run_seed(result.commit, author, result.origin, result.index):
            raise RemoteProtocolError("seed", "not the seed of this commit, author, origin and index")
        held = self._entries.get(result.commit)
        if held is not None and (held.candidate.parent, held.candidate.blob) == (result.parent, result.blob):
            return
        commits = self.rules.commits
        if result.parent is None:
            follows = (result.commit, result.blob) == (commits.genesis, commits.genesis_blob)
        else:
            follows = result.commit == commits.candidate(result.parent, result.blob)
        if not follows:
            raise RemoteProtocolError("commit", "the commit id does not follow from parent and asset")

    def _enter(self, record: Record, result: Result) -> None:
        entry = self._entries.get(result.commit)
        if entry is None:
            entry = self._new_entry(result)
        loss = None if result.metric is None else self.to_metric(result.metric)
        run = Run(record.id, record.author, result, loss)
        entry.runs.append(run)
        entry.told = run if entry.told is None else min(entry.told, run, key=_when_told)
        self._tier_of(result.tier).add(run, known=entry.depth is not None)
        self._claim_lines(entry, record.author, result.lines_added - result.lines_removed)

    def _new_entry(self, result: Result) -> _Entry:
        commit = result.commit
        entry = _Entry(Candidate(commit, result.parent, result.blob, 0))
        self._entries[commit] = entry
        if result.parent is None:
            entry.depth = 0
        else:
            self._children.setdefault(result.parent, []).append(commit)
            parent = self._entries.get(result.parent)
            if parent is None or parent.depth is None:
                return entry
            entry.depth = parent.depth + 1
        self._make_known(commit)
        return entry

    def _make_known(self, commit: str) -> None:
        """``commit`` has a depth; its descendants have one from now on."""
        todo = [commit]
        while todo:
            here = todo.pop()
            for tier in self._tiers.values():
                tier.appear(here)
            depth = self._depth(here)
            for child in self._children.get(here, ()):
                self._entries[child].depth = depth + 1
                todo.append(child)

    def _claim_lines(self, entry: _Entry, author: bytes, lines: int) -> None:
        """Lines are authors' word: the median of it counts, the larger of two in the middle."""
        claimed = entry.lines.get(author)
        entry.lines[author] = lines if claimed is None else max(claimed, lines)
        if entry.lines[author] == claimed:
            return
        before = entry.candidate
        if before.parent is None:
            return  # nothing was added to genesis
        median = int(statistics.median_high(entry.lines.values()))
        if median == before.lines:
            return
        entry.candidate = Candidate(before.commit, before.parent, before.blob, median)
        self._touch(before.commit)

    def _judge(self, verdict: Verdict) -> None:
        """Rule 7: the highest sequence wins, a tie is a veto."""
        word = (verdict.sequence, not verdict.approve)
        held = self._verdicts.get(verdict.commit)
        if held is None or word > held:
            self._verdicts[verdict.commit] = word
            self._touch(verdict.commit)

    def _touch(self, commit: str) -> None:
        for tier in self._tiers.values():
            tier.touch(commit)

    # what the tiers look up

    def _tier_of(self, name: str) -> Tier:
        """The tier, from now on one of the ledger's."""
        if name not in self._tiers:
            self._tiers[name] = self._tier(name)
        return self._tiers[name]

    def _tier(self, name: str) -> Tier:
        """The tier; an empty one where no record names it."""
        return self._tiers.get(name) or Tier(
            name,
            self.rules,
            candidate=lambda commit: self._entries[commit].candidate,
            children=lambda commit: self._children.get(commit, ()),
            depth=self._depth,
            verdict=self._verdict,
        )

    def _depth(self, commit: str) -> int:
        depth = self._entries[commit].depth
        assert depth is not None
        return depth

    def _verdict(self, commit: str) -> bool | None:
        word = self._verdicts.get(commit)
        return None if word is None else not word[1]
