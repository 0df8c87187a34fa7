"""``waggle pause``, ``resume``, ``veto``, ``approve``: what the operator of a home wants of its node.

A running node is told over HTTP, with the token of its home; otherwise it stands in the journal for the next start.
"""

import json
import time
import urllib.error
import urllib.request
from contextlib import closing
from typing import Any

from node.archive import held_program
from node.config import Operate
from node.home import Home
from node.journal import Journal
from node.records import Records
from node.verdict import full_commit, verdict_on
from protocol.errors import UserError

ASK_SECONDS = 5.0


def operate(command: Operate) -> int:
    """Raises UserError."""
    home = Home(command.home)
    if not home.exists:
        raise UserError(f"no node has worked in {home.path}: see waggle start --help, or give another --home")
    said = home.announced()
    done = _tell(home, said, command) if said is not None else _write_down(home, command)
    print(json.dumps({"done": command.what, "commit": command.commit, "running": said is not None})
          if command.json else done)  # fmt: skip
    return 0


def _tell(home: Home, said: dict[str, Any], command: Operate) -> str:
    """To the running node."""
    if command.what in ("pause", "resume"):
        _post(home, f"{said['http']}/api/{command.what}", {})
        return "paused: what runs will end, and nothing new begins" if command.what == "pause" else "resumed"
    approve = command.what == "approve"
    _post(home, f"{said['http']}/api/verdict", {"commit": command.commit, "approve": approve})
    return f"{'approved' if approve else 'vetoed'} {command.commit}: the swarm is told"


def _post(home: Home, url: str, body: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {home.token()}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=ASK_SECONDS):
            return
    except urllib.error.HTTPError as error:
        raise UserError(json.load(error)["error"]) from None
    except OSError as error:
        raise UserError(f"the node on {home.path} does not answer at {url}: {error}") from None


def _write_down(home: Home, command: Operate) -> str:
    """For the next start."""
    with home.locked(), closing(Journal(home.journal)) as journal:
        if command.what in ("pause", "resume"):
            journal.set_meta("paused", b"1" if command.what == "pause" else b"")
            how = "paused" if command.what == "pause" else "not paused"
            return f"no node runs on {home.path}; its next start is {how}"
        program = held_program(journal)
        if program is None:
            raise UserError(f"{home.path} holds no program yet: its node has not come to begin its work")
        records = Records(journal, program.rules, home.identity(), program.swarm_id)
        approve = command.what == "approve"
        records.tell(verdict_on(records, command.commit, approve=approve, now_ms=time.time_ns() // 1_000_000))
        commit = full_commit(records, command.commit)[:12]
        return f"{'approved' if approve else 'vetoed'} {commit}; the swarm is told when a node runs on {home.path}"
