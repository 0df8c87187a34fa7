"""A snapshot for machines and for people. Peers' words are printed without what a terminal would obey."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import Any
from unicodedata import east_asian_width

from node.snapshot import Best, Row, Snapshot
from protocol.text import one_line

#: Enough of a commit to tell it from others, as git shows it.
SHORT = 10
PEER_TAIL = 6
MIB = 1 << 20
#: Places of a metric: differences within the noise are not worth more.
METRIC_FORMAT = ".6g"
#: Cells of a line where nobody says how wide the terminal is.
TABLE_WIDTH = 140
#: Rows of the last experiments in ``waggle status``.
STATUS_ROWS = 5

Json = dict[str, Any]


def status_json(snapshot: Snapshot) -> Json:
    """What ``/api/status`` says; ``running`` tells a node's word from its home's."""
    values = asdict(snapshot)
    counts = {
        "total": values.pop("experiments_total"),
        "own": values.pop("own_experiments"),
        **{name: values.pop(name) for name in ("promising", "accepted", "by_status", "by_origin")},
        "proven": values.pop("proven_count"),
    }
    metric = {
        "name": values.pop("metric_name"), "unit": values.pop("unit"), "goal": values.pop("goal")
    }  # fmt: skip
    values["last"] = [row_json(row) for row in snapshot.last]
    return {**values, "metric": metric, "experiments": counts, "running": snapshot.started_ms > 0}


def row_json(row: Row) -> Json:
    return {**asdict(row), "status": row.status.value, "origin": row.origin.value}


def short_commit(commit: str) -> str:
    return commit[:SHORT]


def short_peer(peer: str, me: str = "") -> str:
    """The end of a peer id: all of them begin alike."""
    return "me" if peer == me else "…" + peer[-PEER_TAIL:]


def metric_text(value: float | None) -> str:
    return "–" if value is None else format(value, METRIC_FORMAT)


def duration(seconds: float) -> str:
    """ "8 s", "12 min", "3.5 h": one unit is enough."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 86400:.0f} d"


def ago(then_ms: int, now_ms: int) -> str:
    return duration(max(0, now_ms - then_ms) / 1000)


def best_text(best: Mapping[str, Any] | None, metric: Mapping[str, str], me: str, tier: str = "") -> str:
    """A ``Best`` as JSON in one line; the tier is told where it is another than ``tier``."""
    if best is None:
        return "none yet"
    value = f"{metric['name']} {metric_text(best['metric'])} {one_line(metric['unit'])}".rstrip()
    runs = f"{best['runs']} run{'' if best['runs'] == 1 else 's'}"
    parts = [short_commit(best["commit"]), runs, f"by {short_peer(best['peer'], me)}"]
    parts += [best["tier"]] if best["tier"] != tier else []
    return f"{value}   {', '.join(parts)}   {one_line(best['summary'], 60)}".rstrip()


def counts_text(counts: Mapping[str, Any]) -> str:
    """How many experiments, and what came of them."""
    ended = ", ".join(f"{number} {name}" for name, number in sorted(counts["by_status"].items()))
    found = f"{counts['accepted']} accepted, {counts['promising']} promising"
    return f"{counts['total']}, {counts['own']} of them mine" + (f"   {ended}   {found}" if ended else "")


def idle_text(shares: Mapping[str, float]) -> str:
    """What share of the lanes' time had no experiment, and why."""
    causes = ", ".join(f"{cause} {share:.1%}" for cause, share in shares.items())
    return f"{sum(shares.values()):.1%} of the lanes' time" + (f" ({causes})" if causes else "")


def current_text(current: Mapping[str, Any]) -> str:
    loss = "" if current["loss"] is None else f"   loss {current['loss']:.4g}"
    how_far = f"{min(current['fraction'], 1.0):.0%} of {current['budget_seconds']:g} s"
    phase = f"{current['phase']} {how_far}" if current["phase"] == "training" else current["phase"]
    summary = one_line(current["summary"], 60)
    return f"{current['origin']} of {short_commit(current['commit'])}   {phase}{loss}   {summary}".rstrip()


def status_lines(status: Json, now_ms: int, width: int = TABLE_WIDTH) -> Iterator[str]:
    """``waggle status``: what a person wants to know first stands first."""
    me, metric = status["peer_id"], status["metric"]
    yield from _fields(_status_fields(status, metric, me, now_ms))
    rows = status["last"][:STATUS_ROWS]
    if rows:
        yield ""
        yield from table(rows, metric, me, now_ms, width)


def _status_fields(
    status: Json, metric: Mapping[str, str], me: str, now_ms: int
) -> Iterator[tuple[str, str]]:
    swarm = f"{one_line(status['program'])}   swarm {status['swarm_id'][:12]}"
    yield "program", f"{swarm}   {status['tier']}"
    yield "node", f"{_state(status, now_ms)}   {me}"
    best, incumbent = status["global_best"], status["incumbent"]
    yield "best", best_text(best, metric, me, status["tier"])
    if incumbent is not None and (best is None or incumbent["commit"] != best["commit"]):
        yield "incumbent", best_text(incumbent, metric, me, status["tier"])
    for waiting in status["awaiting"]:
        yield "to approve", best_text(waiting, metric, me, status["tier"])
    for current in status["current"]:
        yield "now", current_text(current)
    yield "experiments", counts_text(status["experiments"])
    if status["started_ms"]:
        yield "idle", idle_text(status["idle"])
        yield "peers", str(len(status["peers"]))
        yield "address", one_line(status["addresses"][0]) if status["addresses"] else "none: it only dials out"
        yield "http", status["http"]


def _state(status: Json, now_ms: int) -> str:
    if not status["running"]:
        return f"not running; it was done: {one_line(status['stopped'])}" if status["stopped"] else "not running"
    if not status["started_ms"]:
        return "running, but it can't be asked from here"
    since = f"running for {ago(status['started_ms'], now_ms)}"
    if status["paused"]:
        return f"{since}, paused: see waggle resume"
    return f"{since}, done: {status['stopped']}" if status["stopped"] else since


def _fields(pairs: Iterator[tuple[str, str]]) -> Iterator[str]:
    held = list(pairs)
    width = max(len(name) for name, _ in held)
    for name, value in held:
        yield f"{name:<{width}}  {value}".rstrip()


_COLUMNS = ("ago", "{metric}", "status", "origin", "commit", "by", "summary")


def table(
    rows: Sequence[Mapping[str, Any]], metric: Mapping[str, str], me: str, now_ms: int, width: int = TABLE_WIDTH
) -> list[str]:
    """A head and the rows (as JSON) in aligned columns; summaries are cut so that lines have ``width`` cells."""
    head = tuple(column.format(metric=metric["name"]) for column in _COLUMNS)
    lines = [head, *(_cells(row, me, now_ms) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(head) - 1)]
    room = max(0, width - sum(widths) - 2 * len(widths))
    told = []
    for *cells, summary in lines:
        aligned = [cell.ljust(wide) for cell, wide in zip(cells, widths, strict=True)]
        told.append("  ".join([*aligned, _cut(one_line(summary, room), room)]).rstrip())
    return told


def _cut(words: str, cells: int) -> str:
    """Its beginning, as many cells of a terminal wide at most: some letters take two (Unicode's annex 11)."""
    ends = list(accumulate(2 if east_asian_width(letter) in "WF" else 1 for letter in words))
    if not ends or ends[-1] <= cells:
        return words
    return words[: bisect_right(ends, cells - 1)] + "…"


def _cells(row: Mapping[str, Any], me: str, now_ms: int) -> tuple[str, ...]:
    said = row["status"] if row["metric"] is None else row["standing"] or row["status"]
    return (
        ago(row["created_ms"], now_ms), metric_text(row["metric"]), said, row["origin"],
        short_commit(row["commit"]), short_peer(row["peer"], me), row["summary"],
    )  # fmt: skip


def best_json(best: Best, snapshot: Snapshot, standing: str, lineage: Sequence[str]) -> Json:
    """``waggle best --json``; ``lineage`` from genesis to the commit."""
    metric = {"name": snapshot.metric_name, "unit": snapshot.unit, "goal": snapshot.goal}
    return {**asdict(best), "standing": standing, "lineage": list(lineage), "metric_is": metric}
