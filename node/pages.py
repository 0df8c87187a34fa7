"""What the page at ``/`` is made of, as JSON: experiments in order of arrival, the course of the best, the lineage, one
experiment with all that is known of it.

Functions of the ledger, quick enough for the thread that the node works on: what grows with the ledger is given in
parts. Words of peers are given as they are; who shows them escapes them.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from node.snapshot import level, summary_of
from protocol.diffs import decompress
from protocol.errors import RemoteProtocolError
from protocol.identity import peer_id
from protocol.ledger import Ledger
from protocol.records import Record
from protocol.standing import Run, Standing
from protocol.statements import Note, Result

#: Experiments in one answer: some 10 ms of the node's time.
MOST_ROWS = 1000
#: Candidates of the lineage: more can't be read, and the latest matter.
MOST_CANDIDATES = 400

Json = dict[str, Any]


def experiments(ledger: Ledger, after: int, limit: int = MOST_ROWS) -> Json:
    """Results beyond the first ``after`` records of the ledger; ``next`` is what to ask for then, ``records`` how many
    there are."""
    rows: list[Json] = []
    seen = after
    for record in islice(ledger.records(), after, None):
        if len(rows) >= limit:
            break
        seen += 1
        if record.result is not None:
            rows.append(_row(ledger, record, record.result))
    return {"rows": rows, "next": seen, "records": len(ledger)}


def _row(ledger: Ledger, record: Record, result: Result) -> Json:
    return {
        "id": record.id,
        "created_ms": result.created_ms,
        "commit": result.commit,
        "parent": result.parent,
        "metric": result.metric,
        "holdout": result.holdout,
        "status": result.status.value,
        "origin": result.origin.value,
        "peer": record.peer_id,
        "tier": result.tier,
        "summary": result.summary or summary_of(ledger, result.commit),
        "cpu_seconds": result.cpu_seconds,
    }


def course(ledger: Ledger, tier: str) -> list[Json]:
    """Genesis, and each accepted candidate that was better than all before it, at the run that made it accepted."""
    found = []
    for commit in {ledger.rules.genesis, *ledger.accepted(tier)}:
        standing = ledger.standing(commit, tier)
        runs = [run for run in ledger.runs(commit, tier) if run.loss is not None]
        if standing is None or standing.value is None or not runs:
            continue
        order = sorted(runs, key=_told)
        found.append((order[min(len(order), ledger.rules.replications) - 1], standing))
    best: float | None = None
    steps = []
    for run, standing in sorted(found, key=lambda one: _told(one[0])):
        assert standing.value is not None
        if best is None or standing.value < best:
            best = standing.value
            steps.append(_step(ledger, run, standing))
    return steps


def _step(ledger: Ledger, run: Run, standing: Standing) -> Json:
    runs = ledger.runs(standing.commit, standing.tier)
    holdouts = [one.result.holdout for one in runs if one.result.holdout is not None]
    return {
        "id": run.record_id,
        "created_ms": run.result.created_ms,
        "commit": standing.commit,
        "value": _metric(ledger, standing.value),
        "confirmed": _metric(ledger, standing.confirmed) if standing.proven else None,
        "holdout": sum(holdouts) / len(holdouts) if holdouts else None,
        "runs": standing.runs,
        "level": level(standing),
        "summary": summary_of(ledger, standing.commit),
    }


def standings(ledger: Ledger, tier: str) -> dict[str, str]:
    """The candidates of a tier that reached a standing, by commit."""
    commits = (*ledger.promising(tier), *ledger.accepted(tier), *ledger.proven(tier))
    found = {commit: level(ledger.standing(commit, tier)) for commit in commits}
    return {commit: reached for commit, reached in found.items() if reached}


def lineage(ledger: Ledger, tier: str) -> list[Json]:
    """The candidates of a tier that reached a standing, each with its nearest ancestor among them; the latest ones, and
    all that led to the incumbent."""
    shown = standings(ledger, tier)
    incumbent = ledger.incumbent(tier)
    line = set(ledger.lineage(incumbent.commit)) if incumbent else set()
    latest = sorted(shown, key=lambda commit: ledger.latest_ms(commit, tier), reverse=True)[:MOST_CANDIDATES]
    kept = {ledger.rules.genesis, *line.intersection(shown), *latest}
    return [
        _candidate(ledger, commit, tier, kept, on_line=commit in line)
        for commit in sorted(kept, key=lambda commit: (ledger.latest_ms(commit, tier), commit))
        if ledger.known(commit)
    ]


def _candidate(ledger: Ledger, commit: str, tier: str, kept: set[str], *, on_line: bool) -> Json:
    standing, run = ledger.standing(commit, tier), ledger.told(commit)
    above = [ancestor for ancestor in ledger.lineage(commit)[:-1] if ancestor in kept]
    return {
        "commit": commit,
        "parent": above[-1] if above else None,
        "value": _metric(ledger, standing.value) if standing else None,
        "runs": standing.runs if standing else 0,
        "level": level(standing),
        "on_line": on_line,
        "peer": peer_id(run.author) if run else None,
        "summary": summary_of(ledger, commit),
    }


def experiment(ledger: Ledger, record_id: str) -> Json | None:
    """One experiment, with its candidate's other runs; None for what is none."""
    record = ledger.get(record_id)
    if record is None or record.result is None:
        return None
    result = record.result
    standing = ledger.standing(result.commit, result.tier)
    told = ledger.told(result.commit)
    return {
        **_row(ledger, record, result),
        "hypothesis": told.result.hypothesis if told else "",
        "failure": result.failure,
        "diff": _diff(told.result if told else result),
        "curve": result.curve,
        "tunables": dict(result.tunables),
        "metric_se": result.metric_se,
        "wall_seconds": result.wall_seconds,
        "memory": result.peak_memory,
        "device": result.device,
        "software": result.software,
        "seed": str(result.seed),  # more bits than a JavaScript number has
        "standing": _standing(ledger, standing),
        "runs": [_run(ledger, run) for run in sorted(ledger.runs(result.commit), key=_told)],
        "lineage": ledger.lineage(result.commit),
        "parent_id": _run_id(ledger, result.parent),
        "notes": list(_notes(ledger, {run.record_id for run in ledger.runs(result.commit)})),
    }


def _told(run: Run) -> tuple[int, str]:
    return run.result.created_ms, run.record_id


def _run_id(ledger: Ledger, commit: str | None) -> str | None:
    """The record by which a candidate was told first."""
    run = ledger.told(commit) if commit else None
    return run.record_id if run else None


def _standing(ledger: Ledger, standing: Standing | None) -> Json | None:
    if standing is None:
        return None
    return {
        "level": level(standing),
        "value": _metric(ledger, standing.value),
        "confirmed": _metric(ledger, standing.confirmed),
        "runs": standing.runs,
        "authors": standing.authors,
        "confirmations": standing.confirmations,
        "vetoed": standing.vetoed,
        "sigma": ledger.sigma(standing.tier),
    }


def _run(ledger: Ledger, run: Run) -> Json:
    result = run.result
    return {
        "id": run.record_id, "peer": peer_id(run.author), "origin": result.origin.value, "tier": result.tier,
        "status": result.status.value, "metric": result.metric, "holdout": result.holdout,
        "created_ms": result.created_ms,
    }  # fmt: skip


def _diff(result: Result) -> str:
    """Against its parent; "" for genesis, and where it was too large to be told."""
    try:
        return decompress(result.diff).decode("utf-8", "replace")
    except RemoteProtocolError:
        return ""


def _notes(ledger: Ledger, cited: set[str]) -> Iterator[Json]:
    """Notes that cite any of these records."""
    for record in ledger.records():
        note = record.statement
        if isinstance(note, Note) and cited.intersection(note.cites):
            yield {"peer": record.peer_id, "created_ms": note.created_ms, "text": note.text}


def _metric(ledger: Ledger, loss: float | None) -> float | None:
    return None if loss is None else ledger.to_metric(loss)
