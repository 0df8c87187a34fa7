"""Results as nodes make them, with figures of the test's choice."""

from protocol.commits import CommitScheme, blob_id
from protocol.diffs import compress, count_lines, make_diff
from protocol.identity import Identity
from protocol.records import Record, Result, run_seed, seal
from protocol.statements import Origin, Status

SWARM = b"s" * 32
TIER = "cpu-test"


def identity(number: int) -> Identity:
    return Identity(bytes([number]) * 32)


def result(
    who: Identity,
    scheme: CommitScheme,
    metric: float | None,
    *,
    parent: str | None = None,
    old: bytes = b"",
    asset: bytes | None = None,
    origin: Origin = Origin.BASELINE,
    index: int = 0,
    sequence: int = 0,
    created_ms: int = 1000,
    tier: str = TIER,
    swarm_id: bytes = SWARM,
) -> Record:
    """A signed result: of genesis where ``parent`` is None, else of ``asset``, an edit of ``old``."""
    blob = scheme.genesis_blob if asset is None else blob_id(asset)
    commit = scheme.genesis if parent is None else scheme.candidate(parent, blob)
    diff = b"" if asset is None else make_diff(old, asset, scheme.asset)
    added, removed = count_lines(diff)
    return seal(
        who,
        swarm_id,
        Result(
            created_ms=created_ms, sequence=sequence, commit=commit, parent=parent, blob=blob,
            diff=compress(diff), lines_added=added, lines_removed=removed, origin=origin, index=index,
            seed=run_seed(commit, who.public_key, origin, index),
            status=Status.CRASHED if metric is None else Status.SCORED, metric=metric,
            metric_se=None if metric is None else 0.0, holdout=None, cpu_seconds=1.0, wall_seconds=1.0,
            peak_memory=1, tier=tier, device="test", software="test", curve=(), tunables={},
            summary="an edit", hypothesis="", failure="",
        ),
    )  # fmt: skip
