"""``waggle status``, ``waggle log`` and ``waggle best``: of any home, whether a node runs on it or not."""

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from itertools import islice

from node.archive import Archive, open_archive
from node.config import Look
from node.home import Home
from node.snapshot import Best, best, level
from node.view import TABLE_WIDTH, Json, best_json, best_text, row_json, status_json, status_lines, table
from protocol.diffs import make_diff
from protocol.errors import UserError

#: A node on this machine answers in milliseconds; one that does not is looked at from outside.
ASK_SECONDS = 3.0


def look(command: Look) -> int:
    """Raises UserError where there is nothing to look at."""
    {"status": _status, "log": _log, "best": _best}[command.what](command)
    return 0


def _status(command: Look) -> None:
    home = Home(command.home)
    status = _ask(home)
    if status is None:
        with open_archive(home) as archive:
            status = status_json(archive.snapshot())
        status["running"] = home.running
    _print(command, status, status_lines(status, time.time_ns() // 1_000_000, _width()))


def _ask(home: Home) -> Json | None:
    """What the running node says of itself; None where none runs or answers."""
    said = home.announced()
    if said is None:
        return None
    try:
        with urllib.request.urlopen(f"{said['http']}/api/status", timeout=ASK_SECONDS) as answer:
            status = json.load(answer)
    except (KeyError, ValueError, OSError):
        return None
    return status if isinstance(status, dict) else None


def _log(command: Look) -> None:
    with open_archive(Home(command.home)) as archive:
        rows = [row_json(row) for row in islice(archive.rows(), command.limit)]
        metric = {"name": archive.program.spec.metric_name}
        lines = table(rows, metric, archive.snapshot().peer_id, time.time_ns() // 1_000_000, _width())
        _print(command, rows, lines if rows else ["no experiments yet"])


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


def _width() -> int:
    """The terminal's, where there is one."""
    return shutil.get_terminal_size((TABLE_WIDTH, 0)).columns
