"""What a node tells Prometheus: counters, which are here, and gauges (gauges.py), in a registry of its own."""

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from agent.proposer import ALREADY_RUN, BEING_RUN
from gossip.meter import BY_GOSSIP, SIDES, WAYS
from node.gauges import Gauges
from node.metric_names import METRICS, PREFIX
from node.snapshot import Snapshot
from protocol.errors import REASONS
from protocol.statements import Origin
from trainer.job import LIMITS, Outcome

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CLOCKS = ("cpu", "wall", "examination", "overhead")
REBASE_OUTCOMES = ("merged", "conflict", "known")
TOKENS = ("input", "output", "cache_read", "cache_write")
DUPLICATES = (ALREADY_RUN, BEING_RUN)
#: What became of ideas: "run" on the base that they were thought of for, "carried over" to another one and run, or
#: dropped: a "conflict" there, a "duplicate" by now, or the base is "unavailable".
IDEAS = ("run", "carried over", "conflict", "duplicate", "unavailable")
PROPOSALS = ("edit", "fallback", "none", "error")
CAUSES = ("proposer", "nothing to do", "paused")
ROUNDS = ("done", "failed")
DIRECTIONS = ("sent", "received")
#: Gossip is there within a second, or something is wrong; clocks may differ by minutes. Local search thinks for a
#: tenth of a second, a language model for a minute, a command for as long as it may.
BUCKETS = {
    "gossip_delay_seconds": (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
    "proposer_seconds": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
}
#: What no list foresees.
OTHER = "other"


class Metrics:
    """One node's metrics."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one gauge more for each counter, in no list of ours
        self._registry = CollectorRegistry()
        self._counters = {
            metric.name: Counter(PREFIX + metric.name, metric.meaning, metric.labels, registry=self._registry)
            for metric in METRICS
            if metric.kind == "counter"
        }
        self._histograms = {
            metric.name: Histogram(
                PREFIX + metric.name, metric.meaning, buckets=BUCKETS[metric.name], registry=self._registry
            )
            for metric in METRICS
            if metric.kind == "histogram"
        }
        self._gauges = Gauges()
        self._registry.register(self._gauges)
        self._begin()

    def _begin(self) -> None:
        """Show what has not happened yet as 0: a rate needs a first value."""
        values = {
            "experiment_seconds_total": CLOCKS, "rebases_total": REBASE_OUTCOMES, "proposer_tokens_total": TOKENS,
            "proposals_total": PROPOSALS, "duplicates_total": DUPLICATES, "ideas_total": IDEAS,
            "idle_seconds_total": CAUSES, "limits_total": LIMITS, "records_received_total": WAYS,
            "sync_bytes_total": DIRECTIONS, "rejected_total": (*sorted(REASONS), OTHER),
        }  # fmt: skip
        for name, labels in values.items():
            for label in labels:
                self._counters[name].labels(label)
        for side in SIDES:
            for outcome in ROUNDS:
                self._counters["sync_rounds_total"].labels(side, outcome)

    # what happens

    def experiment(self, origin: Origin, outcome: Outcome) -> None:
        """One of ours has ended."""
        self._counters["experiments_total"].labels(origin.value, outcome.status.value).inc()
        took = (outcome.cpu_seconds, outcome.wall_seconds, outcome.exam_seconds, outcome.overhead_seconds)
        for clock, seconds in zip(CLOCKS, took, strict=True):
            self._counters["experiment_seconds_total"].labels(clock).inc(max(0.0, seconds))
        if outcome.limit:
            self._counters["limits_total"].labels(_among(LIMITS, outcome.limit)).inc()

    def rejected(self, reason: str) -> None:
        self._counters["rejected_total"].labels(reason if reason in REASONS else OTHER).inc()

    def rebase(self, outcome: str) -> None:
        self._counters["rebases_total"].labels(_among(REBASE_OUTCOMES, outcome)).inc()

    def replication(self) -> None:
        self._counters["replications_total"].inc()

    def tokens(self, kind: str, tokens: int) -> None:
        self._counters["proposer_tokens_total"].labels(_among(TOKENS, kind)).inc(tokens)

    def thought(self, seconds: float, outcome: str) -> None:
        """The proposer was asked, and took so long."""
        self._counters["proposals_total"].labels(_among(PROPOSALS, outcome)).inc()
        self._histograms["proposer_seconds"].observe(seconds)

    def duplicate(self, kind: str) -> None:
        """A proposal was what somebody has run, or runs."""
        self._counters["duplicates_total"].labels(_among(DUPLICATES, kind)).inc()

    def idea(self, outcome: str) -> None:
        """An edit that was thought of ahead came to its turn."""
        self._counters["ideas_total"].labels(_among(IDEAS, outcome)).inc()

    def idle(self, cause: str, seconds: float) -> None:
        """A lane had no experiment: it waited for the proposer, or there was nothing to do."""
        self._counters["idle_seconds_total"].labels(_among(CAUSES, cause)).inc(seconds)

    # what is heard and said (gossip.meter.Meter)

    def published(self) -> None:
        self._counters["published_total"].inc()

    def came(self, way: str, seconds: float) -> None:
        self._counters["records_received_total"].labels(_among(WAYS, way)).inc()
        if way == BY_GOSSIP:
            self._histograms["gossip_delay_seconds"].observe(max(0.0, seconds))

    def synced(self, side: str, done: bool, sent: int, received: int) -> None:
        self._counters["sync_rounds_total"].labels(_among(SIDES, side), ROUNDS[not done]).inc()
        for direction, count in zip(DIRECTIONS, (sent, received), strict=True):
            self._counters["sync_bytes_total"].labels(direction).inc(count)

    # how it stands

    def observe(self, snapshot: Snapshot) -> None:
        """What the gauges show from now on."""
        self._gauges.snapshot = snapshot

    def render(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)


def _among(labels: tuple[str, ...], label: str) -> str:
    return label if label in labels else OTHER
