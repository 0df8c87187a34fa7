"""The dashboard that is shipped is the one that Grafana's own typed builders make, and asks for what there is."""

import json
import re
from typing import Any

from grafana_foundation_sdk.models import dashboard

from deploy.grafana.build import FILE, text
from node.metric_names import METRICS, PREFIX
from tests.deploy.prometheus import ROOT


def panels() -> list[Any]:
    found: list[Any] = json.loads(FILE.read_text())["panels"]
    return found


def test_what_is_shipped_is_what_is_made() -> None:
    assert FILE.read_text() == text(), "make it with: python -m deploy.grafana.build"


def test_grafanas_own_model_reads_it_without_loss() -> None:
    read = dashboard.Dashboard.from_json(json.loads(FILE.read_text()))
    assert read.title == "waggledance"
    assert [panel["title"] for panel in panels()] == [panel.title for panel in read.panels or []]


def test_it_asks_for_metrics_that_there_are() -> None:
    known = {PREFIX + metric.name for metric in METRICS}
    known |= {f"{name}_bucket" for name in known}
    queries = [one["expr"] for panel in panels() for one in panel.get("targets", ())]
    asked = set(re.findall(rf"{PREFIX}[a-z_]+", " ".join(queries)))
    assert asked <= known
    assert len(asked) > 20


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"]


def test_headlines_come_from_ones_own_node() -> None:
    headlines = [one["expr"] for panel in panels() for one in panel.get("targets", ()) if "best" in one["expr"]]
    assert headlines
    assert all(expr.count("{") == expr.count('own="yes"') for expr in headlines)


def test_it_is_provisioned_from_where_compose_puts_it() -> None:
    provider = (ROOT / "deploy/grafana/provisioning/dashboards/waggledance.yml").read_text()
    assert "path: /var/lib/grafana/dashboards" in provider
    source = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    assert "uid: prometheus" in source
    assert {one["datasource"]["uid"] for panel in panels() for one in panel.get("targets", ())} == {"prometheus"}
