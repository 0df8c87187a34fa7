"""From what a run came to, to the statement that is signed."""

import math
from collections.abc import Mapping

from node.journal import Flight
from protocol.commits import blob_id
from protocol.diffs import compress, count_lines, make_diff
from protocol.records import Result, run_seed
from protocol.statements import (
    MAX_CURVE_POINTS,
    MAX_DIFF_BYTES,
    MAX_MEMORY,
    MAX_METRIC,
    MAX_NAME_BYTES,
    MAX_SECONDS,
    MAX_TEXT_BYTES,
    Scalar,
    Status,
)
from trainer.device import Device
from trainer.job import Outcome


def result_of(
    flight: Flight, outcome: Outcome, *, old: bytes, asset: bytes, path: str, author: bytes, device: Device,
    tunables: Mapping[str, Scalar], sequence: int, created_ms: int,
) -> Result:  # fmt: skip
    """The result of running ``asset``, an edit of ``old`` at ``path``: what the trainer says, in bounds."""
    diff = b"" if flight.parent is None else make_diff(old, asset, path)
    added, removed = count_lines(diff)
    packed = compress(diff)
    status, metric, failure = _scored(outcome)
    return Result(
        created_ms=created_ms,
        sequence=sequence,
        commit=flight.commit,
        parent=flight.parent,
        blob=blob_id(asset),
        diff=packed if len(packed) <= MAX_DIFF_BYTES else b"",
        lines_added=added,
        lines_removed=removed,
        origin=flight.origin,
        index=flight.index,
        seed=run_seed(flight.commit, author, flight.origin, flight.index),
        status=status,
        metric=metric,
        metric_se=None if metric is None else _within(outcome.metric_se),
        holdout=None if metric is None else _within(outcome.holdout),
        cpu_seconds=min(float(outcome.cpu_seconds), MAX_SECONDS),
        wall_seconds=min(float(outcome.wall_seconds), MAX_SECONDS),
        peak_memory=min(int(outcome.peak_memory), MAX_MEMORY),
        tier=device.tier,
        device=clip(device.name, MAX_NAME_BYTES),
        software=clip(device.software, MAX_NAME_BYTES),
        curve=tuple((float(at), float(loss)) for at, loss in outcome.curve[:MAX_CURVE_POINTS]),
        tunables=tunables,
        summary=clip(flight.summary),
        hypothesis=clip(flight.hypothesis),
        failure=clip(failure),
    )


def clip(text: str, most: int = MAX_TEXT_BYTES) -> str:
    """``text`` as valid UTF-8 of at most ``most`` bytes."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _scored(outcome: Outcome) -> tuple[Status, float | None, str]:
    if outcome.status is not Status.SCORED:
        return outcome.status, None, outcome.failure
    metric = _within(outcome.metric)
    if metric is None:
        return Status.REJECTED, None, f"a metric of {outcome.metric} is no measurement"
    return Status.SCORED, metric, outcome.failure


def _within(value: float | None) -> float | None:
    """None for what no statement may carry."""
    if value is None or not math.isfinite(value) or abs(value) > MAX_METRIC:
        return None
    return float(value)
