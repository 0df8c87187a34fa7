"""What a node tells Prometheus. ``METRICS`` is the whole list; nothing else is exported.

Counters count since this process started. Gauges are read from the latest snapshot when they are asked for,
so that no value outlives what it was about. Every label has a bounded set of values, also where peers choose
them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from node.snapshot import Best, Snapshot
from protocol.errors import REASONS
from protocol.statements import Origin, Status

PREFIX = "waggle_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: Tiers are peers' word: mine comes first, then so many others.
MAX_TIERS = 32
CLOCKS = ("cpu", "wall", "overhead")
REBASE_OUTCOMES = ("merged", "conflict", "known")
TOKENS = ("input", "output", "cache_read", "cache_write")
PROPOSALS = ("edit", "none")
CAUSES = ("proposer", "nothing to do")
#: A message that was rejected for what no list foresees.
OTHER = "other"


@dataclass(frozen=True)
class Metric:
    """``name`` without the prefix; ``unit`` of the value, "" for a count."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    meaning: str


METRICS = (
    Metric("experiments_total", "counter", "", ("origin", "status"), "Experiments that this node has run"),
    Metric(
        "experiment_seconds_total", "counter", "seconds", ("clock",),
        "Time that they took: cpu and wall of the training, overhead outside training and examination",
    ),
    Metric("replications_total", "counter", "", (), "Replications of candidates that this node has run"),
    Metric("rebases_total", "counter", "", ("outcome",), "Own wins that this node tried to carry over"),
    Metric("proposals_total", "counter", "", ("outcome",), "Times that the proposer was asked, by what came of it"),
    Metric("proposer_seconds_total", "counter", "seconds", (), "Time that the proposer took"),
    Metric("proposer_tokens_total", "counter", "tokens", ("kind",), "Tokens of a language model, cache reads apart"),
    Metric("idle_seconds_total", "counter", "seconds", ("cause",), "Time of lanes without an experiment, all together"),
    Metric("rejected_total", "counter", "", ("reason",), "What peers sent wrong, by reason"),
    Metric("global_best", "gauge", "the program's", (), "The best that two authors share or that I ran"),
    Metric("incumbent", "gauge", "the program's", ("tier",), "The best accepted candidate of a tier"),
    Metric("incumbent_runs", "gauge", "", ("tier",), "Runs that this value is the mean of"),
    Metric("proven_best", "gauge", "the program's", ("tier",), "The best proven candidate, by confirmations"),
    Metric("holdout_gap", "gauge", "the program's", ("tier",), "How much worse an incumbent's hold-out is"),
    Metric("noise", "gauge", "the program's", (), "Standard deviation of honest runs of one candidate here"),
    Metric("swarm_experiments", "gauge", "", ("status",), "Results in the ledger, by status"),
    Metric("swarm_experiments_by_origin", "gauge", "", ("origin",), "Results in the ledger, by origin"),
    Metric("candidates", "gauge", "", ("standing",), "Candidates of this tier that reached a standing"),
    Metric(
        "arm_candidates", "gauge", "", ("origin", "standing"),
        "Candidates of this node by how it came to them, and how many of them reached a standing",
    ),
    Metric("records", "gauge", "", (), "Records in the ledger"),
    Metric("peers", "gauge", "", (), "Peers connected now"),
    Metric("experiment_fraction", "gauge", "ratio", (), "Part of its budget that a running one has used, on average"),
    Metric("stopped", "gauge", "", (), "1 when no more experiments are to be done"),
    Metric("start_time_seconds", "gauge", "seconds", (), "When this node started, since 1970"),
    Metric(
        "build_info", "gauge", "", ("version", "program", "swarm", "tier", "sandbox"), "Always 1: what runs here"
    ),
)  # fmt: skip

Samples = Iterable[tuple[tuple[str, ...], float]]
T = TypeVar("T")


class Metrics:
    """One node's metrics, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one gauge more for each counter, in no list of ours
        self._registry = CollectorRegistry()
        counters = {
            metric.name: Counter(PREFIX + metric.name, metric.meaning, metric.labels, registry=self._registry)
            for metric in METRICS
            if metric.kind == "counter"
        }
        self._experiments = counters["experiments_total"]
        self._seconds = counters["experiment_seconds_total"]
        self._replications = counters["replications_total"]
        self._rebases = counters["rebases_total"]
        self._rejected = counters["rejected_total"]
        self._proposals = counters["proposals_total"]
        self._proposer_seconds = counters["proposer_seconds_total"]
        self._tokens = counters["proposer_tokens_total"]
        self._idle = counters["idle_seconds_total"]
        self._gauges = _Gauges()
        self._registry.register(self._gauges)
        self._begin()

    def _begin(self) -> None:
        """Show what has not happened yet as 0: a rate needs a first value."""
        for clock in CLOCKS:
            self._seconds.labels(clock)
        for outcome in REBASE_OUTCOMES:
            self._rebases.labels(outcome)
        for labels, counter in ((TOKENS, self._tokens), (PROPOSALS, self._proposals), (CAUSES, self._idle)):
            for label in labels:
                counter.labels(label)
        for reason in (*sorted(REASONS), OTHER):
            self._rejected.labels(reason)

    # what happens

    def experiment(
        self, origin: Origin, status: Status, *, cpu: float, wall: float, overhead: float
    ) -> None:
        """One of ours has ended; times in seconds."""
        self._experiments.labels(origin.value, status.value).inc()
        for clock, seconds in zip(CLOCKS, (cpu, wall, overhead), strict=True):
            self._seconds.labels(clock).inc(max(0.0, seconds))

    def rejected(self, reason: str) -> None:
        self._rejected.labels(reason if reason in REASONS else OTHER).inc()

    def rebase(self, outcome: str) -> None:
        self._rebases.labels(outcome if outcome in REBASE_OUTCOMES else OTHER).inc()

    def replication(self) -> None:
        self._replications.inc()

    def tokens(self, kind: str, tokens: int) -> None:
        self._tokens.labels(kind if kind in TOKENS else OTHER).inc(tokens)

    def thought(self, seconds: float, *, edit: bool) -> None:
        """The proposer was asked, and took so long."""
        self._proposals.labels(PROPOSALS[not edit]).inc()
        self._proposer_seconds.inc(seconds)

    def idle(self, cause: str, seconds: float) -> None:
        """A lane had no experiment: it waited for the proposer, or there was nothing to do."""
        self._idle.labels(cause if cause in CAUSES else OTHER).inc(seconds)

    # how it stands

    def observe(self, snapshot: Snapshot) -> None:
        """What the gauges show from now on."""
        self._gauges.snapshot = snapshot

    def render(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    """The gauges of the latest snapshot; none before there is one."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for metric in METRICS:
            if metric.kind != "gauge" or self.snapshot is None:
                continue
            family = GaugeMetricFamily(PREFIX + metric.name, metric.meaning, labels=metric.labels)
            for labels, value in _SAMPLES[metric.name](self.snapshot):
                family.add_metric(labels, value)
            yield family


def _one(value: float | None) -> Samples:
    return () if value is None else [((), value)]


def _by_tier(snapshot: Snapshot, found: Mapping[str, T], value: Callable[[T], float]) -> Samples:
    """Our own and the MAX_TIERS others that did most."""
    runs = {tier: best.runs for tier, best in snapshot.incumbents.items()}
    others = sorted((tier for tier in found if tier != snapshot.tier), key=lambda tier: (-runs.get(tier, 0), tier))
    others = others[:MAX_TIERS]
    return [((tier,), value(found[tier])) for tier in (snapshot.tier, *others) if tier in found]


def _counts(counts: Mapping[str, int]) -> Samples:
    return [((name,), float(number)) for name, number in counts.items()]


def _metric(best: Best) -> float:
    return best.metric


_SAMPLES: Mapping[str, Callable[[Snapshot], Samples]] = {
    "global_best": lambda now: _one(now.global_best.metric if now.global_best else None),
    "incumbent": lambda now: _by_tier(now, now.incumbents, _metric),
    "incumbent_runs": lambda now: _by_tier(now, now.incumbents, lambda best: best.runs),
    "proven_best": lambda now: _by_tier(now, now.proven, _metric),
    "holdout_gap": lambda now: _by_tier(now, now.holdout_gaps, float),
    "noise": lambda now: _one(now.sigma),
    "swarm_experiments": lambda now: _counts(now.by_status),
    "swarm_experiments_by_origin": lambda now: _counts(now.by_origin),
    "candidates": lambda now: _counts({"promising": now.promising, "accepted": now.accepted}),
    "arm_candidates": lambda now: [
        ((arm, standing), float(count)) for arm, counts in now.yields.items() for standing, count in counts.items()
    ],
    "records": lambda now: _one(now.records),
    "peers": lambda now: _one(len(now.peers)),
    "experiment_fraction": lambda now: _one(sum(one.fraction for one in now.current) / max(1, len(now.current))),
    "stopped": lambda now: _one(float(bool(now.stopped))),
    "start_time_seconds": lambda now: _one(now.started_ms / 1000),
    "build_info": lambda now: [((now.version, now.program, now.swarm_id[:12], now.tier, now.sandbox), 1.0)],
}
