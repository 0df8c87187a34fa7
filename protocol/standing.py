"""Rules 2 to 5 and 7 of DESIGN section 5, as functions of one candidate's runs and of what its parent passes
on.

Everything is in loss orientation: lower is better.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from protocol.noise import NO_SPREAD, Spread, spread
from protocol.rules import Rules
from protocol.statements import Origin, Result, Status

#: An author's runs beyond these tell little more, and would let one author outweigh the others.
MAX_RUNS_AN_AUTHOR = 6
#: Confirmations counted of one candidate: with as many of its ancestor, 3 σ of the difference is 1.7 σ.
MAX_CONFIRMATIONS = 6
#: Honest averages differ by more than this many σ about once in 200 pairs, less where authors ran it more
#: than once.
DISAGREE = 4.0
#: One-sided chance of 1 in 740 for one comparison; a night makes tens of them.
PROOF = 3.0

#: Runs that nobody selected for their outcome. A nominating run was: of many edits it was the luckiest.
UNSELECTED = (Origin.CONFIRMATION, Origin.REPLICATION, Origin.BASELINE)
#: Which of an author's runs count first.
COUNT_ORDER = (
    *UNSELECTED,
    Origin.AGENT,
    Origin.REBASE,
    Origin.RECOMBINE,
    Origin.TRANSPLANT,
)


@dataclass(frozen=True, slots=True)
class Run:
    """A result as the ledger holds it; ``loss`` is None unless it was scored."""

    record_id: str
    author: bytes
    result: Result
    loss: float | None

    @property
    def badness(self) -> tuple[bool, bool, float, str]:
        """Orders the runs under one key: of an author's two stories the worse one counts, then the lesser
        id.
        """
        failed = self.loss is None and self.result.status is not Status.STOPPED_EARLY
        return failed, self.loss is None, -math.inf if self.loss is None else self.loss, self.record_id


@dataclass(frozen=True, slots=True)
class Average:
    """One author's word on a candidate: its counted runs' losses, and how many failed.

    ``mean`` is infinite where most of them failed. ``spread`` is that of the runs that nobody selected.
    """

    losses: tuple[float, ...]
    failed: int
    mean: float
    spread: Spread

    @property
    def failing(self) -> bool:
        return math.isinf(self.mean)


def average(losses: Iterable[float | None], unselected: int = 0) -> Average:
    """The average of runs, None standing for one that failed; the first ``unselected`` show the noise."""
    every = tuple(losses)
    scored = tuple(loss for loss in every if loss is not None)
    failed = len(every) - len(scored)
    if failed > len(scored):
        return Average(scored, failed, math.inf, NO_SPREAD)
    plain = [loss for loss in every[:unselected] if loss is not None]
    return Average(scored, failed, math.fsum(scored) / len(scored), spread(plain))


class Book:
    """The runs of one candidate in one tier, by author, origin and index."""

    __slots__ = ("_latest", "_slots", "averages", "confirmations")

    def __init__(self) -> None:
        self._slots: dict[bytes, dict[Origin, dict[int, Run]]] = {}
        self.averages: dict[bytes, Average] = {}
        #: author to the losses of its confirmations, by index; None for one that failed
        self.confirmations: dict[bytes, tuple[float | None, ...]] = {}
        self._latest: dict[bytes, int] = {}

    @property
    def latest_ms(self) -> int:
        """When the latest run was made, of so many that each author is heard with; 0 without any. Turns pass from then
        on, and who goes on running a candidate can't keep them from passing.
        """
        return max(self._latest.values(), default=0)

    def add(self, run: Run) -> bool:
        """Enter a run; whether that changed anything that counts."""
        runs = self._slots.setdefault(run.author, {}).setdefault(run.result.origin, {})
        held = runs.get(run.result.index)
        if held is not None and held.badness >= run.badness:
            return False
        runs[run.result.index] = run
        return self._count(run.author)

    def next_index(self, author: bytes, origin: Origin) -> int:
        return sum(1 for _ in self._runs(author, origin))

    def _runs(self, author: bytes, *origins: Origin) -> Iterator[Run]:
        """An author's runs of these origins as far as they may count, one origin after another."""
        slots = self._slots.get(author, {})
        return (run for origin in origins for run in _contiguous(slots.get(origin, {})))

    def _count(self, author: bytes) -> bool:
        unselected = len(_told(self._runs(author, *UNSELECTED)))
        counted = _told(self._runs(author, *COUNT_ORDER))
        confirmations = _told(self._runs(author, Origin.CONFIRMATION))
        heard = islice(self._runs(author, *COUNT_ORDER), MAX_RUNS_AN_AUTHOR)
        self._latest[author] = max((run.result.created_ms for run in heard), default=0)
        before = self.averages.pop(author, None), self.confirmations.pop(author, ())
        if counted:
            self.averages[author] = average(counted, unselected)
        if confirmations:
            self.confirmations[author] = confirmations
        return before != (self.averages.get(author), confirmations)


def _contiguous(runs: Mapping[int, Run]) -> Iterator[Run]:
    """From index 0 up to the first gap: what lies beyond may have been picked."""
    index = 0
    while (run := runs.get(index)) is not None:
        yield run
        index += 1


def _told(runs: Iterable[Run]) -> tuple[float | None, ...]:
    """The losses that count; a run that was stopped early tells nothing."""
    telling = (run.loss for run in runs if run.result.status is not Status.STOPPED_EARLY)
    return tuple(islice(telling, MAX_RUNS_AN_AUTHOR))


@dataclass(frozen=True, slots=True)
class Tally:
    """What authors' averages come to (rule 2).

    ``kept`` are the authors whose runs count; ``disputed`` says that they are no majority, so that another
    author should decide. ``value`` is None where nobody ran it or where it fails. Any yardstick from
    ``least`` to below ``limit`` gives the same tally.
    """

    value: float | None = None
    runs: int = 0
    authors: int = 0
    kept: frozenset[bytes] = frozenset()
    disputed: bool = False
    least: float = 0.0
    limit: float = math.inf


NOBODY = Tally()


def tally(averages: Mapping[bytes, Average], yard: float) -> Tally:
    """The mean over the runs of authors within 4 σ of the worse median of the authors' averages."""
    if not averages:
        return NOBODY
    worse_median = sorted(mine.mean for mine in averages.values())[len(averages) // 2]
    if math.isinf(worse_median):
        failing = frozenset(author for author, mine in averages.items() if mine.failing)
        return Tally(authors=len(averages), kept=failing, disputed=2 * len(failing) <= len(averages))
    needs = {author: abs(mine.mean - worse_median) / DISAGREE for author, mine in averages.items()}
    kept = frozenset(author for author, need in needs.items() if need <= yard)
    losses = [loss for author in kept for loss in averages[author].losses]
    return Tally(
        math.fsum(losses) / len(losses), len(losses), len(averages), kept, 2 * len(kept) <= len(averages),
        least=max(needs[author] for author in kept),
        limit=min((need for need in needs.values() if need > yard), default=math.inf),
    )  # fmt: skip


def tally_confirmations(
    commit: str, confirmations: Mapping[bytes, tuple[float | None, ...]], yard: float
) -> Tally:
    """As ``tally``, of confirmations alone: the six that come first by index, then by the author's place."""
    if not confirmations:
        return NOBODY
    places = {author: place(commit, author) for author in confirmations}
    every = sorted(
        (index, places[author], author, loss)
        for author, losses in confirmations.items()
        for index, loss in enumerate(losses)
    )
    chosen: dict[bytes, list[float | None]] = {}
    for _, _, author, loss in every[:MAX_CONFIRMATIONS]:
        chosen.setdefault(author, []).append(loss)
    return tally({author: average(losses) for author, losses in chosen.items()}, yard)


def place(commit: str, peer: bytes) -> bytes:
    """Orders peers for one candidate: nobody's choice, another order for every candidate (rule 6)."""
    return hashlib.sha256(b"\x00".join((b"waggle-place", commit.encode(), peer))).digest()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A commit that the ledger holds results of. ``lines`` is net lines added against its parent."""

    commit: str
    parent: str | None
    blob: str
    lines: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What the rules make of a candidate in a tier.

    value          mean loss of its counted runs, or None
    runs, authors  counted scored runs, and authors who reported any
    base           nearest accepted ancestor (genesis: itself)
    lines          net lines added since that
    gain           how far it beats that one's value after the price of its lines; None where either has none
    confirmed      mean loss of its confirmations, ``confirmations`` of them
    disputed       its authors disagree, and neither side is a majority
    vetoed         the founder vetoed it or an ancestor
    """

    commit: str
    tier: str
    value: float | None
    runs: int
    authors: int
    base: str
    lines: int
    gain: float | None
    promising: bool
    accepted: bool
    proven: bool
    confirmed: float | None
    confirmations: int
    disputed: bool
    vetoed: bool


@dataclass(frozen=True, slots=True)
class Foundation:
    """What a candidate passes on to its children in a tier.

    base, bar    nearest accepted commit, itself included, and its value: None where not run yet, infinite
                 where it fails
    lines        net lines added since ``base``
    proven       nearest proven commit, itself included, with its confirmations' mean and number
    """

    base: str
    bar: float | None
    lines: int
    proven: str
    confirmed: float | None
    confirmations: int
    vetoed: bool


def judge_genesis(commit: str, tier: str, runs: Tally, confirmed: Tally) -> tuple[Standing, Foundation]:
    """Genesis is accepted and proven, whatever its runs say."""
    bar = runs.value
    if bar is None and runs.authors:
        bar = math.inf
    standing = Standing(
        commit, tier, runs.value, runs.runs, runs.authors, base=commit, lines=0, gain=None,
        promising=False, accepted=True, proven=True, confirmed=confirmed.value, confirmations=confirmed.runs,
        disputed=runs.disputed, vetoed=False,
    )  # fmt: skip
    return standing, Foundation(commit, bar, 0, commit, confirmed.value, confirmed.runs, vetoed=False)


def judge(
    candidate: Candidate, tier: str, runs: Tally, confirmed: Tally, below: Foundation, verdict: bool | None,
    rules: Rules, yard: float,
) -> tuple[Standing, Foundation]:  # fmt: skip
    """Rules 3, 4, 5 and 7 for a candidate whose parent passed ``below`` on; ``verdict`` is the founder's."""
    lines = below.lines + candidate.lines
    vetoed = below.vetoed or verdict is False
    gain = None
    if runs.value is not None and below.bar is not None:
        gain = below.bar - runs.value - rules.simplicity * lines
    promising = gain is not None and gain > 0
    permitted = not vetoed and (verdict is True or not rules.review)
    accepted = promising and permitted and runs.runs >= rules.replications
    proven = accepted and _beats(confirmed, below, yard)
    standing = Standing(
        candidate.commit, tier, runs.value, runs.runs, runs.authors, below.base, lines, gain, promising,
        accepted, proven, confirmed.value, confirmed.runs, runs.disputed, vetoed,
    )  # fmt: skip
    foundation = Foundation(
        base=candidate.commit if accepted else below.base,
        bar=runs.value if accepted else below.bar,
        lines=0 if accepted else lines,
        proven=candidate.commit if proven else below.proven,
        confirmed=confirmed.value if proven else below.confirmed,
        confirmations=confirmed.runs if proven else below.confirmations,
        vetoed=vetoed,
    )
    return standing, foundation


def proof_gap(yard: float, one: int, other: int) -> float:
    """By how much two means of so many confirmations must differ to prove anything."""
    return PROOF * yard * math.sqrt(1 / one + 1 / other)


def steady(standing: Standing, runs: Tally, confirmed: Tally, below: Foundation | None, yard: float) -> bool:
    """Whether a candidate would be judged the same by another yardstick; ``below`` is None for genesis."""
    if not (runs.least <= yard < runs.limit and confirmed.least <= yard < confirmed.limit):
        return False
    return below is None or not standing.accepted or standing.proven == _beats(confirmed, below, yard)


def _beats(confirmed: Tally, below: Foundation, yard: float) -> bool:
    if confirmed.value is None or below.confirmed is None:
        return False
    gain = below.confirmed - confirmed.value
    return gain > proof_gap(yard, confirmed.runs, below.confirmations)
