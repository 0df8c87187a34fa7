"""results.tsv as people's notebooks read it, and a picture of any course."""

import csv
import os
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from node.plot import draw, limits, printable, runs, steps
from node.report import write_report
from node.snapshot import Row
from protocol.errors import UserError
from protocol.statements import Origin, Status

GENESIS = "a" * 40
PNG = b"\x89PNG\r\n\x1a\n"


def row(place: int, commit: str = "", metric: float | None = 1.9, **changes: object) -> Row:
    values: dict[str, object] = {
        "record_id": f"{place:064x}", "created_ms": 1_700_000_000_000 + place * 1000,
        "commit": commit or f"{place:040x}", "parent": GENESIS, "metric": metric, "status": Status.SCORED,
        "origin": Origin.AGENT, "peer": "12D3KooW", "tier": "cpu", "summary": f"edit {place}", "standing": "",
        "cpu_seconds": 20.04, "wall_seconds": 25.0, "memory": 2**29,
    }  # fmt: skip
    return Row(**{**values, **changes})  # type: ignore[arg-type]


def genesis(place: int, metric: float = 1.9) -> Row:
    return row(place, GENESIS, metric, parent=None, origin=Origin.BASELINE, standing="proven", summary="as written")


COURSE = [
    genesis(0, 1.90),
    genesis(1, 1.92),
    row(2, metric=2.4),
    row(3, metric=None, status=Status.CRASHED),
    row(4, "b" * 40, 1.80, standing="accepted"),
    row(5, "b" * 40, 1.84, standing="accepted", origin=Origin.REPLICATION),
    row(6, metric=None, status=Status.STOPPED_EARLY),
    row(7, "c" * 40, 1.70, standing="proven"),
    row(8, "c" * 40, 1.72, standing="proven", origin=Origin.REPLICATION),
    row(9, "c" * 40, 1.74, standing="proven", origin=Origin.CONFIRMATION),
    row(10, "d" * 40, 1.60, standing="promising"),
    row(11, "e" * 40, 1.75, standing="accepted"),
]


def report(rows: list[Row], directory: Path, **changes: str) -> tuple[list[dict[str, str]], bytes]:
    words = {"metric_name": "val_bpb", "goal": "minimize", "unit": "bits/byte", "program": "lm-mini", **changes}
    table, picture = write_report(rows, directory, **words)
    assert sorted(directory.iterdir()) == [picture, table]
    with table.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)), picture.read_bytes()


def test_the_table_begins_with_the_columns_that_notebooks_read(tmp_path: Path) -> None:
    lines, _ = report(COURSE[::-1], tmp_path)
    first = ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert list(lines[0])[:5] == first
    told = [[line[name] for name in first] for line in lines]
    assert told[0] == ["aaaaaaa", "1.900000", "0.5", "keep", "as written"]
    assert told[3] == ["0000000", "0.000000", "0.0", "crash", "edit 3"]
    assert [line[3] for line in told] == [
        "keep", "discard", "discard", "crash", "keep", "discard", "discard", "keep", "discard", "discard", "discard",
        "keep",
    ]  # fmt: skip
    assert lines[6]["val_bpb"] == ""
    assert lines[7]["created"] == "2023-11-14T22:13:27+00:00"
    assert (lines[9]["outcome"], lines[9]["standing"], lines[9]["origin"]) == ("scored", "proven", "confirmation")
    assert lines[9]["record"] == f"{9:064x}"


def test_the_metrics_own_name_heads_its_column(tmp_path: Path) -> None:
    lines, _ = report([genesis(0, 1e-7)], tmp_path, metric_name="dist\tance")
    assert lines[0]["dist ance"] == "1e-07"


def test_no_text_of_a_peer_breaks_a_line_or_hides_in_one(tmp_path: Path) -> None:
    evil = 'a\tb\nc\r"d\x1b[2J\u202ee\x00 $\\frac$ 中文 🐝' + "x" * 2000
    lines, picture = report([genesis(0), row(1, metric=1.5, standing="accepted", summary=evil)], tmp_path)
    assert len(lines) == 2
    assert lines[1]["description"].startswith('a b c "d [2J e $\\frac$ 中文 🐝x')
    assert lines[1]["description"].isprintable()
    assert lines[1]["outcome"] == "scored"
    assert picture.startswith(PNG)


def test_a_font_without_a_letter_shows_a_question_mark() -> None:
    assert printable("é → 中") == "é → ?"


def test_the_staircase_holds_accepted_bests_at_the_mean_of_their_runs() -> None:
    course = steps(COURSE, "cpu", maximize=False)
    told = [(step.place, round(step.value, 6), step.proven) for step in course]
    assert told == [(2, 1.91, True), (6, 1.82, False), (9, 1.72, True)]


def test_what_is_maximized_climbs() -> None:
    course = steps([genesis(0, 0.5), row(1, metric=0.4, standing="accepted"), row(2, metric=0.7, standing="accepted")],
                   "cpu", maximize=True)  # fmt: skip
    assert [step.value for step in course] == [0.5, 0.7]


def test_one_terrible_run_does_not_flatten_the_picture() -> None:
    rows = [*COURSE, row(20, metric=1e12)]
    low, high = limits(rows, {"cpu": steps(rows, "cpu", maximize=False)}, maximize=False)
    assert 1.5 < low < 1.6
    assert 1.91 < high < 2.1


@pytest.mark.parametrize(("leap", "shown"), [(1.0, True), (-1e9, False)])
def test_what_is_promising_is_in_the_picture_unless_it_is_absurd(leap: float, shown: bool) -> None:
    rows = [*COURSE, row(20, metric=leap, standing="promising")]
    low, _ = limits(rows, {"cpu": steps(rows, "cpu", maximize=False)}, maximize=False)
    assert (low < leap) is shown


def test_what_is_off_the_scale_is_at_its_own_edge() -> None:
    axes = Figure().subplots()
    runs(axes, [row(1, metric=0.5), row(2, metric=1.5), row(3, metric=9.0)], 1.0, 2.0, maximize=False)
    shown = {x: y for dots in axes.collections for x, y in dots.get_offsets().tolist()}  # type: ignore[union-attr]
    assert shown == {1: 1.015, 2: 1.5, 3: 1.985}


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
@pytest.mark.parametrize(
    "rows",
    [
        [],
        [genesis(0)],
        [row(0, metric=None, status=Status.CRASHED)],
        [genesis(0, 0.0), genesis(1, 0.0)],
        [genesis(0, -1e100), row(1, metric=1e100)],
        COURSE,
        [*COURSE, *(row(20 + place, tier=f"tier-{place}") for place in range(9))],
    ],
    ids=["none", "genesis", "crash", "level", "extremes", "course", "tiers"],
)
def test_any_course_has_a_picture(rows: list[Row], goal: str) -> None:
    assert draw(rows, metric_name="m $x$", goal=goal, unit="", program="p $x_{$").startswith(PNG)


def test_the_next_report_takes_the_place_of_the_last(tmp_path: Path) -> None:
    assert len(report(COURSE, tmp_path / "new" / "folder")[0]) == 12
    assert len(report(COURSE[:2], tmp_path / "new" / "folder")[0]) == 2


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"can't write the report into .*file: (Not a directory|File exists)"):
        report(COURSE, tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]
