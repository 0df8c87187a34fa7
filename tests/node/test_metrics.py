"""What a node tells Prometheus, read by Prometheus's own parser."""

import re
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from node.metric_names import METRICS, PREFIX, REJECTIONS, table
from node.metrics import OTHER, Metrics
from node.snapshot import MAX_TIERS
from protocol.errors import REASONS
from protocol.statements import Origin, Status
from tests.node.test_http import BEST, FULL, ME, client
from trainer.job import Outcome


async def test_prometheus_reads_every_metric() -> None:
    metrics = Metrics()
    spent = Outcome(Status.SCORED, cpu_seconds=2.0, wall_seconds=3.0, exam_seconds=1.0, overhead_seconds=0.5)
    metrics.experiment(Origin.AGENT, spent)
    metrics.experiment(Origin.AGENT, Outcome(Status.CRASHED, limit="memory"))
    metrics.published()
    metrics.came("gossip", 0.2)
    metrics.came("sync", 2000.0)
    metrics.synced("asked", True, 10, 300)
    metrics.synced("answered", False, 5, 0)
    metrics.rebase("merged")
    metrics.replication()
    metrics.thought(0.2, "fallback")
    metrics.rejected("signature")
    metrics.rejected("a reason that no list foresees")
    async with client(FULL, metrics=metrics) as web:
        answer = await web.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert set(families) == {PREFIX + re.sub("_total$", "", metric.name) for metric in METRICS}
    for metric in METRICS:
        family = families[PREFIX + re.sub("_total$", "", metric.name)]
        assert family.documentation == metric.meaning
        assert family.samples
    samples = [sample for family in families.values() for sample in family.samples]
    values = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert values["waggle_experiments_total", "agent", "scored"] == 1
    assert values["waggle_experiment_seconds_total", "wall"] == 3
    assert values["waggle_experiment_seconds_total", "examination"] == 1
    assert values["waggle_limits_total", "memory"] == 1
    assert values["waggle_limits_total", "disk"] == 0
    assert values["waggle_rebases_total", "merged"] == 1
    assert values["waggle_records_received_total", "gossip"] == values["waggle_records_received_total", "sync"] == 1
    assert values["waggle_gossip_delay_seconds_bucket", "0.1"] == 0
    assert values["waggle_gossip_delay_seconds_bucket", "0.25"] == values["waggle_gossip_delay_seconds_count",] == 1
    assert values["waggle_sync_rounds_total", "done", "asked"] == 1
    assert values["waggle_sync_rounds_total", "failed", "answered"] == 1
    assert values["waggle_sync_bytes_total", "received"] == 300
    assert values["waggle_arm_candidates", "agent", "promising"] == 2
    assert values["waggle_replications_total",] == 1
    assert values["waggle_proposals_total", "fallback"] == 1
    assert values["waggle_proposer_seconds_bucket", "0.1"] == 0
    assert values["waggle_proposer_seconds_bucket", "0.3"] == values["waggle_proposer_seconds_count",] == 1
    assert values["waggle_noise", "gpu"] == 0.02
    assert values["waggle_candidates", "proven"] == 1
    assert values["waggle_rejected_total", "signature"] == 1
    assert values["waggle_rejected_total", "other"] == 1
    assert values["waggle_global_best",] == 0.25
    assert values["waggle_incumbent", "gpu"] == 0.25
    assert values["waggle_incumbent_runs", "cpu-x"] == 3
    assert values["waggle_holdout_gap", "cpu-x"] == 0.125
    assert values["waggle_incumbent_error", "cpu-x"] == 0.01
    assert values["waggle_global_best_created_seconds",] == 5
    assert values["waggle_author_accepted", ME.peer_id] == 1
    assert values["waggle_nodes", "cpu-x"] == 2
    assert values["waggle_runs_peers_code",] == 1
    assert values["waggle_records",] == 7
    assert values["waggle_peers",] == 1


async def test_the_tiers_that_did_most_are_told() -> None:
    tiers = {f"tier-{number:03}": replace(BEST, runs=number) for number in range(100)} | {"cpu-x": BEST}
    async with client(replace(FULL, incumbents=tiers)) as web:
        families = {one.name: one for one in text_string_to_metric_families((await web.get("/metrics")).text)}
    told = {sample.labels["tier"] for sample in families[f"{PREFIX}incumbent"].samples}
    assert told == {"cpu-x", *(f"tier-{number:03}" for number in range(100 - MAX_TIERS, 100))}


async def test_labels_are_bounded_where_peers_choose_them() -> None:
    many = replace(FULL, incumbents={f"tier-{number}": BEST for number in range(1000)})
    async with client(many) as web:
        text = (await web.get("/metrics")).text
    assert text.count("waggle_incumbent{") <= 33


def test_the_documentation_has_every_metric() -> None:
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert page.read_text() == table(), "make it with: python -m node.metric_names > docs/metrics.md"


def test_the_documentation_has_every_reason_of_a_rejection() -> None:
    assert set(REJECTIONS) == {*REASONS, OTHER}
    assert all(f"| `{reason}` | {' | '.join(REJECTIONS[reason])} |" in table() for reason in REASONS)
