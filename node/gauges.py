"""The gauges of ``METRICS``, read from the latest snapshot when they are asked for: no value outlives what it was
about. Labels that peers choose are cut to those that matter most.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from node.metric_names import METRICS, PREFIX
from node.snapshot import MAX_TIERS, Best, Snapshot

Samples = Iterable[tuple[tuple[str, ...], float]]
Read = Callable[[Snapshot], Samples]
T = TypeVar("T")


class Gauges(Collector):
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


def _authors(now: Snapshot, what: str) -> Samples:
    return [((peer,), float(found[what])) for peer, found in now.authors.items() if what in found]


def _best(value: Callable[[Best], float]) -> Read:
    return lambda now: _one(value(now.global_best) if now.global_best else None)


def _tiers(bests: Callable[[Snapshot], Mapping[str, Best]], value: Callable[[Best], float]) -> Read:
    return lambda now: _by_tier(now, bests(now), value)


def _incumbents(now: Snapshot) -> Mapping[str, Best]:
    return now.incumbents


def _proven(now: Snapshot) -> Mapping[str, Best]:
    return now.proven


def _metric(best: Best) -> float:
    return best.metric


def _error(best: Best) -> float:
    return best.error


def _created(best: Best) -> float:
    return best.created_ms / 1000


_SAMPLES: Mapping[str, Read] = {
    "global_best": _best(_metric),
    "global_best_error": _best(_error),
    "global_best_created_seconds": _best(_created),
    "incumbent": _tiers(_incumbents, _metric),
    "incumbent_error": _tiers(_incumbents, _error),
    "incumbent_created_seconds": _tiers(_incumbents, _created),
    "incumbent_runs": _tiers(_incumbents, lambda best: best.runs),
    "proven_best": _tiers(_proven, _metric),
    "proven_best_error": _tiers(_proven, _error),
    "holdout_gap": lambda now: _by_tier(now, now.holdout_gaps, float),
    "noise": lambda now: _by_tier(now, now.noise, float),
    "swarm_experiments": lambda now: _counts(now.by_status),
    "swarm_experiments_by_origin": lambda now: _counts(now.by_origin),
    "swarm_edits": lambda now: _one(now.edits),
    "swarm_duplicates": lambda now: _one(now.duplicates),
    "candidates": lambda now: _counts(
        {"promising": now.promising, "accepted": now.accepted, "proven": now.proven_count}
    ),
    "arm_candidates": lambda now: [
        ((arm, standing), float(count)) for arm, counts in now.yields.items() for standing, count in counts.items()
    ],
    "records": lambda now: _one(now.records),
    "journal_bytes": lambda now: _one(now.journal_bytes),
    "author_experiments": lambda now: _authors(now, "experiments"),
    "author_accepted": lambda now: _authors(now, "accepted"),
    "author_latest": lambda now: _authors(now, "latest"),
    "peers": lambda now: _one(len(now.peers)),
    "mesh_peers": lambda now: _one(now.mesh),
    "nodes": lambda now: _by_tier(now, now.nodes, float),
    "runs_peers_code": lambda now: _one(float(now.foreign)),
    "experiment_fraction": lambda now: _one(sum(one.fraction for one in now.current) / max(1, len(now.current))),
    "paused": lambda now: _one(float(now.paused)),
    "stopped": lambda now: _one(float(bool(now.stopped))),
    "start_time_seconds": lambda now: _one(now.started_ms / 1000),
    "build_info": lambda now: [((now.version, now.program, now.swarm_id[:12], now.tier, now.sandbox), 1.0)],
}
