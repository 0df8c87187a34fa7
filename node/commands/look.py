"""``waggle status``, ``waggle log`` and ``waggle best``: of any home, whether a node runs on it or not."""

import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from node.archive import Archive, ask, open_archive
from node.config import Look
from node.home import Home
from node.snapshot import Best, best, level, row
from node.view import TABLE_WIDTH, Json, best_json, best_text, row_json, status_json, status_lines, table
from protocol.diffs import make_diff
from protocol.errors import UserError

#: Between two looks of who watches.
FOLLOW_SECONDS = 1.0
#: Home, and nothing below: https://en.wikipedia.org/wiki/ANSI_escape_code
CLEAR = "\x1b[H\x1b[J"


def look(command: Look) -> int:
    """Raises UserError where there is nothing to look at."""
    {"status": _status, "log": _log, "best": _best}[command.what](command)
    return 0


def _status(command: Look) -> None:
    if command.follow:
        _watch(command)
        return
    status = _status_now(command)
    _print(command, status, status_lines(status, _now_ms(), _width()))


def _status_now(command: Look) -> Json:
    home = Home(command.home)
    status: Json | None = ask(home, "/api/status")
    if status is None:
        with open_archive(home) as archive:
            status = status_json(archive.snapshot())
        status["running"] = home.running
    return status


def _watch(command: Look) -> None:
    """Until Ctrl-C: in place on a terminal, else one block (or line of JSON) after each change."""
    shown = ""
    in_place = sys.stdout.isatty() and not command.json
    while True:
        status = _status_now(command)
        text = json.dumps(status) if command.json else "\n".join(status_lines(status, _now_ms(), _width()))
        if text != shown:
            print(f"{CLEAR}{text}" if in_place else text, flush=True)
            shown = text
        time.sleep(FOLLOW_SECONDS)


def _log(command: Look) -> None:
    if command.follow:
        _follow(command)
        return
    with open_archive(Home(command.home)) as archive:
        rows = [row_json(row) for row in islice(archive.rows(), command.limit)]
        metric = {"name": archive.program.spec.metric_name}
        lines = table(rows, metric, archive.snapshot().peer_id, _now_ms(), _width())
        _print(command, rows, lines if rows else ["no experiments yet"])


def _follow(command: Look) -> None:
    """Until Ctrl-C: the last experiments, oldest first, and each new one as it comes to the home."""
    with open_archive(Home(command.home)) as archive:
        records, me = archive.records, archive.snapshot().peer_id
        rows = list(islice(archive.rows(), command.limit))[::-1]
        metric = {"name": archive.program.spec.metric_name}
        seen, head = len(records.ledger), True
        while True:
            lines = (json.dumps(row_json(row)) for row in rows) if command.json else table(
                [row_json(row) for row in rows], metric, me, _now_ms(), _width()
            )  # fmt: skip
            for line in islice(lines, 0 if head or command.json else 1, None) if rows else ():
                print(line, flush=True)
            head = head and not rows
            records.catch_up()
            new = islice(records.ledger.records(), seen, None)
            rows = [row(records.ledger, one) for one in new if one.result is not None]
            seen = len(records.ledger)
            if not rows:
                time.sleep(FOLLOW_SECONDS)


def _best(command: Look) -> None:
    with open_archive(Home(command.home)) as archive:
        snapshot = archive.snapshot()
        found = _wanted(command, archive)
        if command.show or command.diff:
            print(_asset(archive, found.commit, command.diff).decode("utf-8", "replace"), end="")
            return
        ledger = archive.records.ledger
        standing = level(ledger.standing(found.commit, found.tier))
        values = best_json(found, snapshot, standing, ledger.lineage(found.commit))
        _print(command, values, _best_lines(values, snapshot.peer_id))


def _wanted(command: Look, archive: Archive) -> Best:
    """The headline's best, or a tier's incumbent."""
    ledger = archive.records.ledger
    if command.tier is None:
        found = archive.snapshot().global_best
        if found is None:
            raise UserError("there is no best yet: see waggle status")
        return found
    found = best(ledger, ledger.incumbent(command.tier))
    if found is None:
        tiers = ", ".join(ledger.tiers()) or "none"
        raise UserError(f"no incumbent in tier {command.tier!r}; tiers with results: {tiers}")
    return found


def _asset(archive: Archive, commit: str, diff: bool) -> bytes:
    asset = archive.asset(commit)
    return make_diff(archive.program.asset, asset, archive.program.spec.asset) if diff else asset


def _best_lines(values: Json, me: str) -> Iterator[str]:
    yield best_text(values, values["metric_is"], me)
    yield f"commit    {values['commit']}"
    yield f"standing  {values['standing']}, {len(values['lineage']) - 1} steps from genesis"
    yield "see also  waggle best --diff, waggle best --show"


def _print(command: Look, values: object, lines: Iterable[str]) -> None:
    if command.json:
        print(json.dumps(values, indent=2))
        return
    for line in lines:
        print(line)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _width() -> int:
    """The terminal's, where there is one."""
    return shutil.get_terminal_size((TABLE_WIDTH, 0)).columns
