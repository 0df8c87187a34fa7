"""The configuration that is shipped, in a real Prometheus that watches a real swarm."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.prometheus import ROOT, SHIPPED, prometheus
from tests.e2e.kit import Place, place
from tests.programs.variants import write_numbers
from tests.waiting import until

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="make test installs prometheus")

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "waggledance.json"
RULES = SHIPPED / "rules" / "waggle.yml"
#: What Grafana puts in place of its variables: four scrapes at least; a step, which no scrape is shorter than.
GRAFANA = {"$__rate_interval": "30s", "$__interval": "1s"}


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)


def test_what_is_shipped_is_well_formed() -> None:
    checked = promtool("check", "config", str(SHIPPED / "prometheus.yml"))
    assert checked.returncode == 0, checked.stderr
    assert "rules found" in checked.stdout


def test_alerts_fire_when_they_should_and_not_before() -> None:
    done = promtool("test", "rules", str(Path(__file__).parent / "alerts.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def expressions() -> list[tuple[str, str]]:
    """(panel, expression) of all queries of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [(panel["title"], filled(target["expr"])) for panel in panels for target in panel.get("targets", ())]


def filled(expression: str) -> str:
    for variable, value in GRAFANA.items():
        expression = expression.replace(variable, value)
    return expression


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_one_address_finds_the_swarm_and_every_panel_has_data(swarm: Place, tmp_path: Path) -> None:
    splits = {f"data/{split}/numbers.txt": "no more than a file\n" for split in ("train", "validation", "holdout")}
    program = write_numbers(tmp_path / "program", seconds=1, files=splits)
    first = await swarm.start("first", "--program", str(program), "--no-mdns").up()
    others = [
        swarm.start(name, first.address, "--yes", "--no-mdns", command="join") for name in ("second", "third")
    ]
    for other in others:
        await other.up()
    peers = {node.said("peer_id"): "no" for node in others} | {first.said("peer_id"): "yes"}
    with prometheus(tmp_path / "prometheus", first.said("http").removeprefix("http://")) as watching:
        await until(watching.ready, 30)
        await until(lambda: watching.up() == peers, 60)
        wanted = {*expressions(), *((rule, rule) for rule in recorded())}

        def all_seen() -> bool:
            wanted.difference_update({one for one in wanted if watching.series(one[1])})
            return not wanted

        try:
            await until(all_seen, 120)
        except AssertionError:
            raise AssertionError(f"no data for {wanted}") from None
        alerts = watching.ask("rules", type="alert")["groups"]
        health = {rule["name"]: rule["health"] for group in alerts for rule in group["rules"]}
        assert health == dict.fromkeys(health, "ok")
        assert len(health) == RULES.read_text().count("- alert:")
        own = watching.series('waggle_global_best{own="yes"}')
        assert [one["metric"]["node"] for one in own] == [first.said("peer_id")]


def recorded() -> list[str]:
    """Names of the series that the rules make."""
    return [
        line.partition("record:")[2].strip() for line in RULES.read_text().splitlines() if "- record:" in line
    ]
