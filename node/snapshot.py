"""A node at one moment: frozen, so that HTTP, display and metrics may read it while the node works.

What the ledger says is put in by ``Snapshot.with_ledger``, with or without a running node.
"""

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from node.holdout import gap
from protocol.identity import peer_id
from protocol.ledger import Ledger
from protocol.records import Record
from protocol.standing import Standing
from protocol.statements import FIRST_RUNS, Origin, Result, Status
from protocol.trust import headline
from trainer.program import Program

#: A screenful.
LAST_ROWS = 20
#: Authors who are told apart: as many as a picture can show.
MAX_AUTHORS = 16
#: Tiers are peers' word: this node's own is looked at, and so many others.
MAX_TIERS = 32


@dataclass(frozen=True)
class Best:
    """A commit, its metric (program's unit and direction) with its standard error, and who first reported it when."""

    commit: str
    metric: float
    tier: str
    peer: str
    runs: int
    summary: str
    error: float = 0.0
    created_ms: int = 0


@dataclass(frozen=True)
class Row:
    """One experiment; memory in bytes, times in seconds. ``standing`` is its candidate's, "" for none."""

    record_id: str
    created_ms: int
    commit: str
    parent: str | None
    metric: float | None
    status: Status
    origin: Origin
    peer: str
    tier: str
    summary: str
    standing: str
    cpu_seconds: float
    wall_seconds: float
    memory: int


@dataclass(frozen=True)
class Current:
    """An experiment that runs now; ``fraction`` is of the budget."""

    commit: str
    origin: Origin
    summary: str
    phase: str
    fraction: float
    seconds: float
    budget_seconds: float
    loss: float | None


@dataclass(frozen=True)
class Snapshot:
    """``sigma`` is this tier's noise, ``noise`` that of each tier that is looked at; ``experiments_total`` counts all
    results that we hold. ``holdout_gaps`` are the incumbents': how much worse the hold-out is than the metric.
    ``foreign`` is whether peers' code may run here.

    ``nodes`` counts by tier the nodes of the swarm that were heard lately and this one, ``mesh`` the peers that gossip
    is passed on to at once; ``authors`` has who reported most, by peer id, and how many of their candidates of this
    tier were accepted. ``journal_bytes`` are those of all records.

    ``edits`` are the proposers' new edits in the ledger, ``duplicates`` those that were one in the tier already.
    ``idle`` is the share of the lanes' time without an experiment, by cause.
    ``promising``, ``accepted`` and ``proven_count`` count candidates of this tier, genesis left out. ``stopped`` says
    why the stopping criterion held, "" while it does not. ``founder`` is a peer id, "" for none; ``awaiting`` is what
    it has yet to approve, in this tier.
    """

    swarm_id: str
    peer_id: str
    program: str
    metric_name: str
    unit: str
    goal: str
    tier: str
    sandbox: str
    version: str
    addresses: tuple[str, ...] = ()
    http: str = ""
    peers: tuple[str, ...] = ()
    nodes: Mapping[str, int] = field(default_factory=dict)
    mesh: int = 0
    foreign: bool = False
    journal_bytes: int = 0
    records: int = 0
    sigma: float = 0.0
    noise: Mapping[str, float] = field(default_factory=dict)
    incumbent: Best | None = None
    incumbents: Mapping[str, Best] = field(default_factory=dict)
    proven: Mapping[str, Best] = field(default_factory=dict)
    holdout_gaps: Mapping[str, float] = field(default_factory=dict)
    global_best: Best | None = None
    experiments_total: int = 0
    promising: int = 0
    accepted: int = 0
    proven_count: int = 0
    by_status: Mapping[str, int] = field(default_factory=dict)
    by_origin: Mapping[str, int] = field(default_factory=dict)
    own_experiments: int = 0
    edits: int = 0
    duplicates: int = 0
    yields: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    authors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    current: tuple[Current, ...] = ()
    last: tuple[Row, ...] = ()
    idle: Mapping[str, float] = field(default_factory=dict)
    started_ms: int = 0
    stopped: str = ""
    paused: bool = False
    founder: str = ""
    awaiting: tuple[Best, ...] = ()

    @classmethod
    def of(cls, program: Program, tier: str, me: bytes, *, sandbox: str, version: str, foreign: bool = False) -> Self:
        """A snapshot that knows no ledger yet."""
        spec = program.spec
        return cls(
            swarm_id=program.swarm_id.hex(), peer_id=peer_id(me), program=spec.name,
            metric_name=spec.metric_name, unit=spec.unit, goal=spec.goal, tier=tier, sandbox=sandbox,
            version=version, foreign=foreign, founder=spec.founder or "",
        )  # fmt: skip

    def with_ledger(self, ledger: Ledger, chronicle: "Chronicle") -> Self:
        """What follows from the ledger; the same with or without a running node."""
        tiers = chronicle.tiers(self.tier)
        incumbents = {tier: best(ledger, ledger.incumbent(tier)) for tier in tiers}
        gaps = {tier: gap(ledger, found.commit, tier) for tier, found in incumbents.items() if found}
        proven = {tier: best(ledger, ledger.proven_best(tier), proven=True) for tier in tiers}
        believed = headline(ledger, me=chronicle.me)
        promising, accepted, proven_here = (
            [commit for commit in commits if commit != ledger.rules.genesis]
            for commits in (ledger.promising(self.tier), ledger.accepted(self.tier), ledger.proven(self.tier))
        )
        return replace(
            self,
            records=len(ledger),
            sigma=ledger.sigma(self.tier),
            noise={tier: ledger.sigma(tier) for tier in tiers},
            incumbent=incumbents.get(self.tier),
            incumbents={tier: found for tier, found in incumbents.items() if found},
            proven={tier: found for tier, found in proven.items() if found},
            holdout_gaps={tier: found for tier, found in gaps.items() if found is not None},
            global_best=best(ledger, believed),
            experiments_total=chronicle.total,
            promising=len(promising),
            accepted=len(accepted),
            proven_count=len(proven_here),
            by_status=dict(chronicle.by_status),
            by_origin=dict(chronicle.by_origin),
            own_experiments=len(chronicle.own_ms),
            edits=chronicle.edits,
            duplicates=chronicle.edits - len(chronicle.edited),
            yields=yields(chronicle.proposed, promising, accepted, proven_here),
            authors=authors(ledger, chronicle, self.tier, accepted),
            awaiting=tuple(awaiting(ledger, self.tier)),
            last=tuple(row(ledger, record) for record in reversed(chronicle.last)),
        )


class Chronicle:
    """What a snapshot says about records one by one, kept up to date as they come."""

    def __init__(self, me: bytes) -> None:
        self.me = me
        self.total = 0
        #: when each of my experiments was told
        self.own_ms: list[int] = []
        #: git blob ids of all assets that were an experiment
        self.blobs: set[str] = set()
        #: candidates that are edits of mine, and how I came to them
        self.proposed: dict[str, Origin] = {}
        #: results of new edits by proposers, and what they ran: those beyond one each are duplicates
        self.edits = 0
        self.edited: set[tuple[str, str]] = set()
        self.by_status: Counter[str] = Counter()
        self.by_origin: Counter[str] = Counter()
        self.by_author: Counter[bytes] = Counter()
        #: the metric of what each author told last, by author and tier
        self.latest: dict[tuple[bytes, str], float] = {}
        #: how many authors measured anything in a tier
        self.authors_in: Counter[str] = Counter()
        self.last: deque[Record] = deque(maxlen=LAST_ROWS)

    def add(self, record: Record) -> None:
        result = record.result
        if result is None:
            return
        self.total += 1
        if record.author == self.me:
            self.own_ms.append(result.created_ms)
            if result.origin in FIRST_RUNS:
                self.proposed.setdefault(result.commit, result.origin)
        if result.origin is Origin.AGENT:
            self.edits += 1
            self.edited.add((result.tier, result.blob))
        self.by_status[result.status.value] += 1
        self.by_origin[result.origin.value] += 1
        self.by_author[record.author] += 1
        if result.metric is not None:
            self.authors_in[result.tier] += (record.author, result.tier) not in self.latest
            self.latest[record.author, result.tier] = result.metric
        self.blobs.add(result.blob)
        self.last.append(record)

    def tiers(self, own: str) -> list[str]:
        """Those that are looked at: a node's own, and the MAX_TIERS others in which most authors are."""
        others = sorted((tier for tier in self.authors_in if tier != own), key=lambda one: (-self.authors_in[one], one))
        return sorted([own, *others[:MAX_TIERS]])


def awaiting(ledger: Ledger, tier: str) -> Iterator[Best]:
    """Where the founder reviews: what has its replications, and waits to be approved; the best first."""
    rules = ledger.rules
    commits = ledger.promising(tier) if rules.review else ()
    standings = [standing for commit in commits if (standing := ledger.standing(commit, tier)) is not None]
    for standing in sorted(standings, key=lambda one: (math.inf if one.value is None else one.value, one.commit)):
        found = best(ledger, standing)
        if found is not None and standing.runs >= rules.replications and not standing.vetoed:
            yield found


def yields(
    mine: Mapping[str, Origin], promising: Sequence[str], accepted: Sequence[str], proven: Sequence[str]
) -> dict[str, dict[str, int]]:
    """How many candidates of mine came of each arm, by origin, and how many of them reached a standing at least."""
    reached = {"tried": mine, "promising": [*promising, *accepted], "accepted": accepted, "proven": proven}
    counts = Counter(
        (mine[commit].value, standing) for standing, commits in reached.items() for commit in commits if commit in mine
    )
    return {
        arm.value: {standing: counts[arm.value, standing] for standing in reached} for arm in sorted(FIRST_RUNS)
    }


def authors(
    ledger: Ledger, chronicle: "Chronicle", tier: str, accepted: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Results of the authors who told most, how many candidates of theirs were accepted in a tier, and the metric of
    the last one that they ran there.
    """
    told = chronicle.by_author
    found = Counter(run.author for commit in accepted if (run := ledger.told(commit)) is not None)
    most = sorted(told, key=lambda author: (-found[author], -told[author], author))[:MAX_AUTHORS]
    return {
        peer_id(author): {
            "experiments": told[author], "accepted": found[author],
            **({"latest": chronicle.latest[author, tier]} if (author, tier) in chronicle.latest else {}),
        }
        for author in most
    }  # fmt: skip


def summary_of(ledger: Ledger, commit: str) -> str:
    """What its proposer says of a candidate."""
    if commit == ledger.rules.genesis:
        return "the program as its author wrote it"
    run = ledger.told(commit)
    return "" if run is None else run.result.summary


def best(ledger: Ledger, standing: Standing | None, *, proven: bool = False) -> Best | None:
    """``standing`` for people; with ``proven``, by its confirmations alone."""
    if standing is None:
        return None
    loss = standing.confirmed if proven else standing.value
    run = ledger.told(standing.commit)
    if loss is None or run is None:
        return None
    runs = standing.confirmations if proven else standing.runs
    return Best(
        commit=standing.commit,
        metric=ledger.to_metric(loss),
        tier=standing.tier,
        peer=peer_id(run.author),
        runs=runs,
        summary=summary_of(ledger, standing.commit),
        error=ledger.sigma(standing.tier) / math.sqrt(max(1, runs)),
        created_ms=run.result.created_ms,
    )


def row(ledger: Ledger, record: Record) -> Row:
    """The record of a result, for people."""
    result = record.statement
    assert isinstance(result, Result)
    return Row(
        record_id=record.id,
        created_ms=result.created_ms,
        commit=result.commit,
        parent=result.parent,
        metric=result.metric,
        status=result.status,
        origin=result.origin,
        peer=record.peer_id,
        tier=result.tier,
        summary=result.summary or summary_of(ledger, result.commit),
        standing=level(ledger.standing(result.commit, result.tier)),
        cpu_seconds=result.cpu_seconds,
        wall_seconds=result.wall_seconds,
        memory=result.peak_memory,
    )


def level(standing: Standing | None) -> str:
    """The highest that a candidate has reached: proven, accepted, promising or nothing."""
    if standing is None or standing.vetoed:
        return ""
    if standing.proven:
        return "proven"
    if standing.accepted:
        return "accepted"
    return "promising" if standing.promising else ""
