"""What a proposer may know: the ledger as trials and insights, without hold-outs; and what it tells the swarm."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from math import inf

from agent.proposer import Attempt, Context, Insight, Metric, Trial
from node.outcome import clip
from node.parts import Parts
from node.records import Records
from node.repeats import Repeats
from node.snapshot import level, summary_of
from protocol.records import Record, Result
from protocol.statements import MAX_CITES, MAX_TEXT_BYTES, Note, Scalar
from protocol.text import one_line
from protocol.trust import broken_promises
from trainer.program import MANIFEST_FILE

log = logging.getLogger(__name__)

#: What a proposer is shown of its own tier: enough for a search model, little enough to read in a moment.
MAX_TRIALS = 400
#: Of them the base's latest ancestors, and the best of the accepted and of the promising: they stay in sight however
#: much came after them, and leave the half to what did.
MAX_LINEAGE = 100
MAX_BEST = 50
#: The latest of other tiers, besides genesis in each: by what was run in both they can be compared.
MAX_ELSEWHERE = 100
MAX_INSIGHTS = 50
#: Notes that are ranked, the latest; and how many of one author's are shown, so that none crowds out the others.
MAX_NOTES = 1000
NOTES_AN_AUTHOR = 10
#: Letters of a peer id that tell peers apart; its first dozen are the same for all.
PEER_LETTERS = 8
#: Two notes that share this much of their words say the same.
SAME_WORDS = 0.8
#: Files that tell how the asset is used; data that a program brings along is not shown.
MAX_FIXED_BYTES = 64 * 1024


class Brief:
    """Of one node, at the time of asking."""

    def __init__(self, parts: Parts, records: Records) -> None:
        self._records = records
        self._ledger = records.ledger
        self._spec = parts.program.spec
        self._tier = parts.trainer.device.tier
        self._clock_ms = parts.clock_ms
        self._told: list[Record] = []
        self._program_text = parts.program.files[MANIFEST_FILE].decode()
        self._fixed = {
            path: data
            for path, data in parts.program.files.items()
            if path.endswith(".py") and path not in (self._spec.asset, self._spec.evaluator)
            and len(data) <= MAX_FIXED_BYTES
        }  # fmt: skip

    def context(
        self, base: str, asset: bytes, seed: int, repeats: Repeats, running: Sequence[Attempt]
    ) -> Context:  # fmt: skip
        """For an edit of ``asset``, that of the commit ``base``."""
        lineage = self._ledger.lineage(base)
        trials = self.trials(lineage)
        return Context(
            program_text=self._program_text,
            asset_name=self._spec.asset,
            base=base,
            asset=asset,
            tier=self._tier,
            trials=trials,
            running=running,
            taken=repeats.taken,
            seed=seed,
            metric=self.metric,
            lineage=lineage,
            insights=self.insights(),
            fixed=self._fixed,
            note=self.note,
            repeats=partial(repeats.of, base=base, trials=trials),
        )

    @property
    def metric(self) -> Metric:
        maximize = self._spec.goal == "maximize"
        return Metric(self._spec.metric_name, self._spec.unit, maximize, self._ledger.sigma(self._tier))

    def trials(self, lineage: Sequence[str]) -> list[Trial]:
        """Candidates, oldest first: those of ``lineage``, the best, and the latest of each tier.

        Others than those of ``lineage`` are left out where nobody but authors of broken promises vouches for them.
        """
        mine, doubted = self._tier, self._doubted()
        best = [*self._ledger.accepted(mine)[:MAX_BEST], *self._ledger.promising(mine)[:MAX_BEST]]
        shown = {*lineage[-MAX_LINEAGE:], *(commit for commit in best if not doubted(commit, mine))}
        room = Counter({True: MAX_TRIALS - len(shown), False: MAX_ELSEWHERE})
        trials: dict[tuple[str, str], Trial] = {}
        for result in self._results():
            commit, tier = result.commit, result.tier
            if (commit, tier) in trials:
                continue
            here = tier == mine
            if commit not in (shown if here else lineage[:1]):
                if room[here] <= 0 or doubted(commit, tier):
                    continue
                room[here] -= 1
            trials[commit, tier] = self._trial(commit, tier, result.tunables)
        return list(trials.values())[::-1]

    def _results(self) -> Iterator[Result]:
        """Those in the tiers that are looked at, the latest first."""
        tiers = set(self._records.chronicle.tiers(self._tier))
        results = (record.result for record in self._records.latest())
        return (result for result in results if result is not None and result.tier in tiers)

    def _doubted(self) -> Callable[[str, str], bool]:
        """Whether nobody but authors of broken promises vouches for a commit's value in a tier."""
        broken = broken_promises(self._ledger, self._records.me)

        def doubted(commit: str, tier: str) -> bool:
            kept = self._ledger.tally(commit, tier).kept
            return bool(kept) and kept <= broken  # nobody's are kept where all runs were stopped early

        return doubted

    def _trial(self, commit: str, tier: str, tunables: Mapping[str, Scalar]) -> Trial:
        standing = self._ledger.standing(commit, tier)
        run = self._ledger.told(commit)
        assert run is not None
        said = run.result
        return Trial(
            commit, tunables, None if standing is None else standing.value, said.status, tier,
            parent=said.parent, author=short_peer(self._records.ledger.get(run.record_id)),
            gain=None if standing is None else standing.gain, standing=level(standing),
            summary=summary_of(self._ledger, commit),
            hypothesis=said.hypothesis, failure=said.failure, blob=said.blob,
            own=run.author == self._records.me,
        )  # fmt: skip

    def insights(self) -> list[Insight]:
        """What was noted, that of the largest effects first and then the latest; one of those that say the same."""
        kept: list[tuple[Insight, frozenset[str]]] = []
        by_author: Counter[bytes] = Counter()
        for record, note in self._ranked():
            words = _words(note.text)
            if by_author[record.author] == NOTES_AN_AUTHOR or any(_same(words, other) for _, other in kept):
                continue
            by_author[record.author] += 1
            kept.append((Insight(short_peer(record), note.text, list(self._cited(note))), words))
            if len(kept) == MAX_INSIGHTS:
                break
        return [insight for insight, _ in kept]

    def _ranked(self) -> list[tuple[Record, Note]]:
        """The latest notes, by the effect of what they cite."""
        broken = broken_promises(self._ledger, self._records.me)
        told = (record for record in self._records.latest() if record.author not in broken)
        notes = ((record, note) for record in told if isinstance(note := record.statement, Note) and note.text.strip())
        latest = list(islice(notes, MAX_NOTES))
        return sorted(latest, key=lambda one: -self._effect(list(self._cited(one[1]))))

    def note(self, text: str, commits: Sequence[str]) -> None:
        """Keep what was learnt, citing the first run of each commit; what was said before is not said again."""
        text = clip("\n".join(filter(None, map(one_line, text.splitlines()))), MAX_TEXT_BYTES)
        words = _words(text)
        if not words or any(_same(words, other) for other in self._noted()):
            return
        runs = [run for commit in commits if (run := self._ledger.told(commit)) is not None]
        cites = tuple(dict.fromkeys(run.record_id for run in runs))[:MAX_CITES]
        note = Note(self._clock_ms(), self._records.sequence, text, cites)
        self._told.append(self._records.tell(note))
        log.info("noted: %s", one_line(text, 200))

    def to_publish(self) -> list[Record]:
        """Notes that the swarm has not been told of."""
        told, self._told = self._told, []
        return told

    def _noted(self) -> Iterator[frozenset[str]]:
        for record in self._records.latest():
            if isinstance(record.statement, Note):
                yield _words(record.statement.text)

    def _cited(self, note: Note) -> Iterator[str]:
        for name in note.cites:
            record = self._ledger.get(name)
            if record is not None and record.result is not None:
                yield record.result.commit

    def _effect(self, commits: Sequence[str]) -> float:
        """The largest gain or loss among what a note is about; a failure tells as much as one sigma."""
        effects = [-inf]
        for commit in commits:
            standing = self._ledger.standing(commit, self._tier)
            known = standing is not None and standing.gain is not None
            effects.append(abs(standing.gain or 0.0) if known and standing else self._ledger.sigma(self._tier))
        return max(effects)


def short_peer(record: Record | None) -> str:
    return "" if record is None else record.peer_id[-PEER_LETTERS:]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.lower().split())


def _same(one: frozenset[str], other: frozenset[str]) -> bool:
    """Jaccard's index: https://en.wikipedia.org/wiki/Jaccard_index"""
    return len(one & other) >= SAME_WORDS * len(one | other)
