"""What a node shows while it runs: a live picture on a terminal; elsewhere the log's lines are enough."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from node.snapshot import Current, Snapshot
from node.view import (
    ago,
    best_text,
    counts_text,
    row_json,
    short_commit,
    short_peer,
    status_json,
    table,
)
from protocol.text import one_line

#: Often enough for a bar that moves, seldom enough to cost nothing.
REFRESH_SECONDS = 0.5
#: Of the last experiments; with the rest they fit a terminal of 24 lines.
ROWS = 8
PEERS = 6
#: Of experiments that run side by side.
LANES = 4
BAR_WIDTH = 40
NAME_WIDTH = 12
STANDING_STYLES = {"proven": "bold green", "accepted": "green", "promising": "yellow"}
#: Shown as failed.
BAD = frozenset({"crashed", "timed out", "overran", "rejected"})


async def show(console: Console, snapshot: Callable[[], Snapshot]) -> None:
    """Until cancelled; the last picture stays on the screen."""
    with Live(console=console, auto_refresh=False, transient=False) as live:
        try:
            while True:
                live.update(picture(snapshot(), _now_ms(), console.width), refresh=True)
                await trio.sleep(REFRESH_SECONDS)
        finally:
            live.update(picture(snapshot(), _now_ms(), console.width), refresh=True)


def picture(snapshot: Snapshot, now_ms: int, width: int) -> Group:
    """The node at one moment, as lines that are cut at the terminal's ``width``."""
    parts: list[RenderableType] = [Text(), _head(snapshot, now_ms), *_facts(snapshot, status_json(snapshot))]
    if snapshot.last:
        parts += [Text(), *_rows(snapshot, now_ms, width)]
    return Group(*parts)


def _head(snapshot: Snapshot, now_ms: int) -> Text:
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(f" {one_line(snapshot.program)} ", "bold reverse")
    state = f"  swarm {snapshot.swarm_id[:12]}   {snapshot.tier}   sandbox {snapshot.sandbox}"
    head.append(f"{state}   up {ago(snapshot.started_ms, now_ms)}", "dim")
    return head


def _facts(snapshot: Snapshot, status: dict[str, Any]) -> Iterator[RenderableType]:
    """A name and a value a line; the most wanted first."""
    me, metric, best, incumbent = snapshot.peer_id, status["metric"], snapshot.global_best, snapshot.incumbent
    yield _fact("best", best_text(status["global_best"], metric, me, snapshot.tier), "bold green")
    if incumbent is not None and (best is None or best.commit != incumbent.commit):
        yield _fact("incumbent", best_text(status["incumbent"], metric, me, snapshot.tier))
    yield _fact("experiments", counts_text(status["experiments"]))
    yield _fact("peers", _peers(snapshot))
    address = snapshot.addresses[0] if snapshot.addresses else ""
    yield _fact("join by", f"waggle join {address}" if address else "this node only dials out")
    yield _fact("http", snapshot.http)
    if not snapshot.current:
        idle = f"done: {snapshot.stopped}; peers are still served" if snapshot.stopped else "choosing what to do next"
        yield _fact("now", idle)
    for current in snapshot.current[:LANES]:
        yield _fact("now", f"{current.origin} of {short_commit(current.commit)}   {one_line(current.summary)}")
        yield _bar(current)


def _fact(name: str, value: str, style: str = "") -> Text:
    line = Text(f"{name:<{NAME_WIDTH}} ", "dim", no_wrap=True, overflow="ellipsis")
    return line.append(value, style or "not dim")


def _peers(snapshot: Snapshot) -> str:
    some = "  ".join(short_peer(peer) for peer in snapshot.peers[:PEERS])
    more = "  …" if len(snapshot.peers) > PEERS else ""
    return f"{len(snapshot.peers)}   {some}{more}".rstrip()


def _bar(current: Current) -> Table:
    fraction = min(max(current.fraction, 0.0), 1.0) if current.phase == "training" else _ends(current.phase)
    line = Table.grid(padding=(0, 2, 0, 0))
    loss = "" if current.loss is None else f"   loss {current.loss:.4g}"
    spent = f"{min(current.seconds, current.budget_seconds):.0f} of {current.budget_seconds:g} s"
    bar = ProgressBar(total=1.0, completed=fraction, width=BAR_WIDTH)
    line.add_row(" " * (NAME_WIDTH - 1), bar, Text(f"{current.phase}   {spent}{loss}", no_wrap=True))
    return line


def _ends(phase: str) -> float:
    return 1.0 if phase == "examining" else 0.0


def _rows(snapshot: Snapshot, now_ms: int, width: int) -> Iterator[Text]:
    """The last experiments, each in the colour of what came of it."""
    rows = [row_json(row) for row in snapshot.last[:ROWS]]
    head, *lines = table(rows, {"name": snapshot.metric_name}, snapshot.peer_id, now_ms, width)
    yield Text(head, "dim", no_wrap=True, overflow="ellipsis")
    for values, line in zip(rows, lines, strict=True):
        style = STANDING_STYLES.get(values["standing"], "red" if values["status"] in BAD else "")
        yield Text(line, style, no_wrap=True, overflow="ellipsis")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
