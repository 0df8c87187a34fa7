"""What people read: on a terminal of any width, whatever peers wrote."""

import io
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from node import logs
from node.display import picture
from node.snapshot import Best, Current, Row, Snapshot
from node.view import duration, row_json, status_json, status_lines, table
from protocol.identity import Identity
from protocol.statements import Origin, Status
from tests.node.nodes import NUMBERS

NOW_MS = 1_800_000_000_000
ME = Identity(bytes(32))
EVIL = "\x1b]0;owned\x07\x1b[2J\u202eevil\r\nline 中文 " + "x" * 500
BLANK = Snapshot.of(NUMBERS, "cpu-x", ME.public_key, sandbox="bubblewrap", version="1")
BEST = Best("c" * 40, 0.25, "cpu-x", ME.peer_id, 3, EVIL)
ROW = Row(
    "1" * 64, NOW_MS - 5000, "c" * 40, "d" * 40, 0.25, Status.SCORED, Origin.AGENT, "12D3KooWabcdef", "cpu-x", EVIL,
    "accepted", 1.0, 2.0, 3,
)  # fmt: skip
FAILED = replace(ROW, metric=None, status=Status.CRASHED)
CURRENT = Current("d" * 40, Origin.REPLICATION, EVIL, "training", 0.5, 10.0, 20.0, 2.0)
FULL = replace(
    BLANK, incumbent=BEST, global_best=BEST, peers=tuple(f"12D3KooWpeer{number:02}" for number in range(40)),
    addresses=("/ip4/192.0.2.7/tcp/4001/p2p/" + "x" * 52,), last=(ROW, FAILED) * 8, current=(CURRENT,),
    started_ms=NOW_MS - 90_000, by_status={"scored": 8, "crashed": 8}, experiments_total=16,
)  # fmt: skip
SNAPSHOTS = {
    "blank": BLANK, "full": FULL, "stopped": replace(FULL, current=(), stopped="the target 0.1 is reached"),
    "examining": replace(FULL, current=(replace(CURRENT, phase="examining", loss=None),)),
}  # fmt: skip


def drawn(snapshot: Snapshot, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=True).print(picture(snapshot, NOW_MS, width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("name", SNAPSHOTS)
def test_the_picture_fits_and_obeys_nobody(name: str, width: int) -> None:
    lines = drawn(SNAPSHOTS[name], width)
    assert len(lines) <= 24
    assert all(len(line) <= width and line.isprintable() for line in lines)


def test_the_picture_says_what_matters() -> None:
    text = "\n".join(drawn(FULL, 160))
    assert "distance 0.25" in text
    assert "3 runs, by me" in text
    assert "replication of dddddddddd" in text
    assert "10 of 20 s   loss 2" in text
    assert "waggle join /ip4/192.0.2.7/tcp/4001/p2p/" in text
    assert "crashed" in text
    assert "…abcdef" in text
    assert "done: the target" in "\n".join(drawn(SNAPSHOTS["stopped"], 160))


def test_a_candidates_standing_does_not_hide_that_a_run_of_it_failed() -> None:
    _, good, bad = table([row_json(ROW), row_json(FAILED)], {"name": "m"}, "me", NOW_MS, 120)
    assert "accepted" in good
    assert "crashed" in bad
    assert "accepted" not in bad


def test_wide_letters_count_twice() -> None:
    lines = table([row_json(replace(ROW, summary="中文" * 200))], {"name": "m"}, "me", NOW_MS, 120)
    assert max(map(cell_len, lines)) in (119, 120)


def test_status_in_lines() -> None:
    lines = list(status_lines(status_json(FULL), NOW_MS, 100))
    assert all(line.isprintable() for line in lines)
    text = "\n".join(lines)
    assert "running for 90 s" in text
    assert "40" in next(line for line in lines if line.startswith("peers"))
    unheard = "\n".join(status_lines({**status_json(BLANK), "running": True}, NOW_MS))
    assert "it can't be asked from here" in unheard
    assert "peers" not in unheard
    assert "not running" in "\n".join(status_lines(status_json(BLANK), NOW_MS))


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (99, "99 s"), (120, "2 min"), (7200, "2.0 h"), (400_000, "5 d")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_log_lines_obey_nobody(caplog: pytest.LogCaptureFixture) -> None:
    written: list[str] = []
    handler = logs.Lines(written.append)
    handler.emit(logging.LogRecord("node", logging.WARNING, "", 0, "peer says %s", (EVIL,), None))
    (line,) = written
    assert "WARNING peer says" in line
    assert "\x1b" not in line
    assert "\u202e" not in line


def test_a_line_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(line: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(logging, "raiseExceptions", False)
    logs.Lines(fail).emit(logging.LogRecord("node", logging.INFO, "", 0, "x", (), None))


def test_looking_at_a_home_waits_for_no_heavy_library() -> None:
    code = "import sys, node.commands.look, node.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[2])  # fmt: skip
    heavy = {"torch", "libp2p", "optuna", "matplotlib", "numpy", "git", "uvicorn", "rich", "tokenizers"}
    assert not heavy & set(done.stdout.split())


def test_the_share_of_idle_time_and_why_a_node_ended_are_told() -> None:
    idle = replace(FULL, idle={"nothing to do": 0.01, "proposer": 0.024})
    lines = dict(line.split("  ", 1) for line in status_lines(status_json(idle), NOW_MS) if "  " in line)
    assert lines["idle"].strip() == "3.4% of the lanes' time (nothing to do 1.0%, proposer 2.4%)"
    left = status_json(replace(BLANK, stopped="2 experiments done"))
    assert "not running; it was done: 2 experiments done" in "\n".join(status_lines(left, NOW_MS))
