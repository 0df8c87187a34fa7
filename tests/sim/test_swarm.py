"""Fifty whole nodes on a virtual clock come to one ledger and one incumbent, whatever the network does."""

import pytest
from trio.testing import MockClock

from gossip.memory import internet
from gossip.swarm import SYNC_SECONDS
from tests.sim.swarm import PARTITION, Report, simulate

#: Exchanges with a random peer each, in which what gossip lost comes to all of fifty nodes: log2 of them.
ROUNDS = 6


def said(report: Report) -> None:
    print(
        f"\n{report.nodes} nodes, {report.records} records, {report.messages} messages:"
        f" {report.messages / report.records / report.nodes:.0f} a record and node, presences included;"
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
    """With delays that are never the same: of what is due at one moment trio goes through by address in memory."""
    first = await simulate(nodes=4, experiments=5, seed=7, delay=internet)
    second = await simulate(nodes=4, experiments=5, seed=7, delay=internet)
    assert first.incumbents == second.incumbents
    assert first.true_gain == second.true_gain


@pytest.mark.slow
async def test_fifty_nodes_agree_through_loss_and_a_partition(autojump_clock: MockClock) -> None:
    report = await simulate(nodes=50, experiments=6, loss=0.1, partition=PARTITION)
    said(report)
    assert report.ledgers == 1
    assert len(report.incumbents) == 1
    assert report.records == report.experiments == 300
    assert report.true_gain > 0
    assert report.converged < ROUNDS * SYNC_SECONDS
