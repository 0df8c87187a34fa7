"""Fifty whole nodes on a virtual clock come to one ledger and one incumbent, whatever the network does."""

import pytest
from trio.testing import MockClock

from tests.sim.swarm import BUDGET_SECONDS, PARTITION, Report, simulate


def said(report: Report) -> None:
    print(
        f"\n{report.nodes} nodes, {report.records} records, {report.messages} messages:"
        f" {report.messages / report.records / report.nodes:.2f} a record and node;"
        f" agreed {report.converged:.0f} virtual s after the last experiment;"
        f" true gain {report.true_gain:.3f}, claimed {report.claimed:.3f}; {report.rebases} rebases;"
        f" {report.cpu_seconds:.0f} s CPU"
    )


async def test_a_small_swarm_agrees(autojump_clock: MockClock) -> None:
    report = await simulate(nodes=6, experiments=6, loss=0.0)
    said(report)
    assert report.ledgers == 1
    assert len(report.incumbents) == 1
    assert report.records == report.experiments == 36


async def test_the_same_seed_gives_the_same_swarm(autojump_clock: MockClock) -> None:
    first = await simulate(nodes=4, experiments=5, seed=7)
    second = await simulate(nodes=4, experiments=5, seed=7)
    assert first.incumbents == second.incumbents
    assert first.true_gain == second.true_gain


@pytest.mark.slow
async def test_fifty_nodes_agree_through_loss_and_a_partition(autojump_clock: MockClock) -> None:
    report = await simulate(nodes=50, experiments=8, loss=0.1, partition=PARTITION)
    said(report)
    assert report.ledgers == 1
    assert len(report.incumbents) == 1
    assert report.records == report.experiments == 400
    assert report.true_gain > 0
    assert report.converged < 2 * BUDGET_SECONDS
