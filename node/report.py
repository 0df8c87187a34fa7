"""A night on paper: ``results.tsv`` for notebooks, ``progress.png`` and ``summary.txt`` for people.

The table begins with the five columns of karpathy/autoresearch's results.tsv (commit, metric, memory_gb,
status, description), whose notebooks read it as it is: ``keep`` for the run that brought an accepted candidate,
``crash`` for a run that failed, ``discard`` for every other, repeated runs among them. Ours follow.
"""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from node.plot import draw
from node.snapshot import Row
from protocol.errors import UserError
from protocol.statements import Status
from protocol.text import one_line

#: Letters of a commit id, as in git's short form and in the tables that people know.
SHORT = 7
#: Letters of a description: a table is read in columns.
MAX_DESCRIPTION = 200
#: Beyond these a metric is written with an exponent.
PLAIN = (1e-3, 1e9)
KEPT = ("accepted", "proven")
OURS = (
    "outcome", "standing", "origin", "tier", "peer", "cpu_seconds", "wall_seconds", "created", "parent", "record",
)  # fmt: skip


def write_report(
    rows: Iterable[Row], directory: Path, *, metric_name: str, goal: str, unit: str, program: str, summary: str = ""
) -> list[Path]:
    """Write the files into ``directory``, in place of older ones; returns their paths, a ``summary``'s last.

    ``rows`` in any order; ``goal`` is "minimize" or "maximize". Raises ``UserError`` where it can't write.
    """
    ordered = sorted(rows, key=lambda row: (row.created_ms, row.record_id))
    table, picture = directory / "results.tsv", directory / "progress.png"
    image = draw(ordered, metric_name=metric_name, goal=goal, unit=unit, program=program)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        replace(table, tsv(ordered, metric_name).encode())
        replace(picture, image)
        if summary:
            replace(directory / "summary.txt", summary.encode())
    except OSError as error:
        raise UserError(f"can't write the report into {directory}: {error.strerror}") from None
    return [table, picture, *([directory / "summary.txt"] if summary else [])]


def replace(path: Path, content: bytes) -> None:
    """A reader sees the old file or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)


def tsv(rows: Sequence[Row], metric_name: str) -> str:
    """The table, oldest first."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
    writer.writerow(["commit", one_line(metric_name), "memory_gb", "status", "description", *OURS])
    seen: set[tuple[str, str]] = set()
    for row in rows:
        status = verdict(row, again=(row.commit, row.tier) in seen)
        if row.metric is not None:
            seen.add((row.commit, row.tier))
        writer.writerow([*theirs(row, status), *ours(row)])
    return out.getvalue()


def verdict(row: Row, *, again: bool) -> str:
    """keep, discard or crash; ``again`` for a candidate that has been scored in an earlier row."""
    if row.metric is None:
        return "discard" if row.status is Status.STOPPED_EARLY else "crash"
    kept = row.parent is None or row.standing in KEPT
    return "keep" if kept and not again else "discard"


def theirs(row: Row, status: str) -> list[str]:
    """The five columns; a crash has zeros there, as their readers expect."""
    crashed = status == "crash"
    return [
        row.commit[:SHORT],
        "0.000000" if crashed else number(row.metric),
        "0.0" if crashed else f"{row.memory / 2**30:.1f}",
        status,
        one_line(row.summary, MAX_DESCRIPTION),
    ]


def ours(row: Row) -> list[str]:
    created = datetime.fromtimestamp(row.created_ms / 1000, UTC)
    return [
        row.status.value, row.standing, row.origin.value, row.tier, row.peer, f"{row.cpu_seconds:.1f}",
        f"{row.wall_seconds:.1f}", created.isoformat(timespec="seconds"), row.parent or "", row.record_id,
    ]  # fmt: skip


def number(metric: float | None) -> str:
    if metric is None:
        return ""
    plain = metric == 0 or PLAIN[0] <= abs(metric) < PLAIN[1]
    return f"{metric:.6f}" if plain else f"{metric:.6g}"
