"""What a node shows while it runs: a live picture on a terminal; elsewhere the log's lines are enough."""

import time
from collections.abc import Callable
from typing import Any

import trio
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from node.snapshot import Current, Snapshot
from node.view import ago as ago_text
from node.view import best_text, counts_text, metric_text, printable, row_json, short_commit, short_peer, status_json

#: Often enough for a bar that moves, seldom enough to cost nothing.
REFRESH_SECONDS = 0.5
#: Of the last experiments; with the rest they fit a terminal of 24 lines.
ROWS = 8
PEERS = 6
BAR_WIDTH = 40
STANDING_STYLES = {"proven": "bold green", "accepted": "green", "promising": "yellow"}
#: Shown as failed.
BAD = frozenset({"crashed", "timed out", "overran", "rejected"})


async def show(console: Console, snapshot: Callable[[], Snapshot]) -> None:
    """Until cancelled; the last picture stays on the screen."""
    with Live(console=console, auto_refresh=False, transient=False) as live:
        try:
            while True:
                live.update(picture(snapshot(), _now_ms()), refresh=True)
                await trio.sleep(REFRESH_SECONDS)
        finally:
            live.update(picture(snapshot(), _now_ms()), refresh=True)


def picture(snapshot: Snapshot, now_ms: int) -> Group:
    """The node at one moment, as lines that are cut at the terminal's width."""
    status = status_json(snapshot)
    parts: list[Any] = [Text(), _head(snapshot, now_ms), _facts(snapshot, status)]
    if snapshot.last:
        parts += [Text(), _rows(snapshot, now_ms)]
    return Group(*parts)


def _head(snapshot: Snapshot, now_ms: int) -> Text:
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(f" {printable(snapshot.program)} ", "bold reverse")
    state = f"  swarm {snapshot.swarm_id[:12]}   {snapshot.tier}   sandbox {snapshot.sandbox}"
    head.append(f"{state}   up {ago_text(snapshot.started_ms, now_ms)}", "dim")
    return head


def _facts(snapshot: Snapshot, status: dict[str, Any]) -> Table:
    """A name and a value a line; the most wanted first."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    me, metric, best, incumbent = snapshot.peer_id, status["metric"], snapshot.global_best, snapshot.incumbent
    table.add_row("best", Text(best_text(status["global_best"], metric, me, snapshot.tier), "bold green"))
    if incumbent is not None and (best is None or best.commit != incumbent.commit):
        table.add_row("incumbent", Text(best_text(status["incumbent"], metric, me, snapshot.tier)))
    table.add_row("experiments", Text(counts_text(status["experiments"])))
    table.add_row("peers", _peers(snapshot))
    address = snapshot.addresses[0] if snapshot.addresses else ""
    table.add_row("join by", Text(f"waggle join {address}" if address else "this node only dials out"))
    table.add_row("http", Text(snapshot.http))
    table.add_row("now", _now(snapshot))
    if snapshot.current is not None:
        table.add_row("", _bar(snapshot.current))
    return table


def _peers(snapshot: Snapshot) -> Text:
    some = "  ".join(short_peer(peer) for peer in snapshot.peers[:PEERS])
    more = "  …" if len(snapshot.peers) > PEERS else ""
    return Text(f"{len(snapshot.peers)}   {some}{more}".rstrip())


def _now(snapshot: Snapshot) -> Text:
    current = snapshot.current
    if snapshot.stopped:
        return Text(f"done: {snapshot.stopped}; peers are still served", "bold")
    if current is None:
        return Text("choosing what to do next")
    return Text(f"{current.origin} of {short_commit(current.commit)}   {printable(current.summary)}")


def _bar(current: Current) -> Table:
    fraction = min(max(current.fraction, 0.0), 1.0) if current.phase == "training" else _ends(current.phase)
    line = Table.grid(padding=(0, 2))
    loss = "" if current.loss is None else f"   loss {current.loss:.4g}"
    spent = f"{min(current.seconds, current.budget_seconds):.0f} of {current.budget_seconds:g} s"
    line.add_row(
        ProgressBar(total=1.0, completed=fraction, width=BAR_WIDTH), Text(f"{current.phase}   {spent}{loss}")
    )
    return line


def _ends(phase: str) -> float:
    return 1.0 if phase == "examining" else 0.0


def _rows(snapshot: Snapshot, now_ms: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("ago", snapshot.metric_name, "status", "origin", "commit", "by", "summary"):
        wide = name == "summary"
        table.add_column(Text(name), no_wrap=True, overflow="ellipsis" if wide else "fold", ratio=wide or None)
    for row in snapshot.last[:ROWS]:
        values = row_json(row)
        said = values["standing"] or values["status"]
        style = STANDING_STYLES.get(said, "red" if said in BAD else "")
        table.add_row(
            ago_text(row.created_ms, now_ms), metric_text(row.metric), Text(said, style), values["origin"],
            short_commit(row.commit), short_peer(row.peer, snapshot.peer_id), Text(printable(row.summary)),
        )  # fmt: skip
    return table


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
