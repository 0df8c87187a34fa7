"""A program's stopping criterion ends the work, and leaves a report."""

from pathlib import Path

import pytest

from tests.e2e.kit import Place
from tests.programs.variants import write_numbers
from tests.waiting import until

pytestmark = pytest.mark.slow

FILES = ["progress.png", "results.tsv", "summary.txt"]


async def test_a_node_that_has_done_enough_reports_and_goes_on_serving(nodes: Place, tmp_path: Path) -> None:
    program = write_numbers(tmp_path / "program", seconds=1, extra="[stop]\nexperiments = 6\n\n")
    node = await nodes.start("home", "--program", str(program), "--no-mdns").up()
    report = node.home / "report"
    status = await node.until(lambda status: bool(status["stopped"]))
    await until(lambda: f"report:    {report}\n" in node.log.read_text(), 60.0)
    assert status["experiments"]["own"] == 6
    assert 0.0 <= sum(status["idle"].values()) < 1.0
    assert node.status()["running"]
    assert node.stop() == 0
    assert sorted(path.name for path in report.iterdir()) == FILES
    said = node.log.read_text()
    done, at = said.index("done:      6 experiments done\n"), said.index(f"report:    {report}\n")
    assert done < at, said
    text = (report / "summary.txt").read_text()
    assert "Ended: 6 experiments done." in text
    assert "The best" in text
    assert len((report / "results.tsv").read_text().splitlines()) == 7

    again = nodes.waggle("report", "--home", str(node.home), "--out", str(tmp_path / "out"))
    assert again.returncode == 0
    assert "\nIdle: " in text
    assert text == (tmp_path / "out" / "summary.txt").read_text()
    assert again.stdout.startswith((tmp_path / "out" / "summary.txt").read_text())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    assert "it was done: 6 experiments done" in nodes.waggle("status", "--home", str(node.home)).stdout


async def test_an_exit_when_done_comes_after_the_report(nodes: Place, tmp_path: Path) -> None:
    program = write_numbers(tmp_path / "program", seconds=1, extra="[stop]\ntarget = 100.0\n\n")
    home = tmp_path / "home"
    done = nodes.waggle(
        "start", "--program", str(program), "--home", str(home), "--exit-when-done", "--no-mdns", "--http",
        "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0", seconds=120.0,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the target 100 is reached" in (home / "report" / "summary.txt").read_text()
    assert done.stdout.endswith(f"report:    {home / 'report'}\n")


async def test_a_report_that_cannot_be_written_is_said_and_nothing_more(nodes: Place, tmp_path: Path) -> None:
    program = write_numbers(tmp_path / "program", seconds=1, extra="[stop]\nexperiments = 2\n\n")
    home = tmp_path / "home"
    home.mkdir()
    (home / "report").write_text("in the way")
    node = await nodes.start("home", "--program", str(program), "--no-mdns").up()
    await node.until(lambda status: bool(status["stopped"]) and "no report: can't write" in node.log.read_text())
    assert node.stop() == 0
