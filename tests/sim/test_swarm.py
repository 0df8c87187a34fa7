"""Fifty whole nodes on a virtual clock come to one ledger and one incumbent, whatever the network does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trio.testing import MockClock

from gossip.swarm import SYNC_SECONDS
from tests.sim.swarm import PARTITION, Report, simulate

ROOT = Path(__file__).parents[2]
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


def test_the_same_seed_gives_the_same_swarm() -> None:
    """In two processes, which hash names and lay out memory each in its own way."""
    command = [sys.executable, "-m", "tests.sim.swarm", "--nodes", "8", "--experiments", "12", "--seed", "7"]
    first, second = (
        subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": hashed}, check=True, capture_output=True, text=True
        ).stdout.partition("cpu_seconds")[0]
        for hashed in ("1", "2")
    )
    assert first == second
    assert "experiments=96" in first


@pytest.mark.slow
async def test_fifty_nodes_agree_through_loss_and_a_partition(autojump_clock: MockClock) -> None:
    report = await simulate(nodes=50, experiments=6, loss=0.1, partition=PARTITION)
    said(report)
    assert report.ledgers == 1
    assert len(report.incumbents) == 1
    assert report.records == report.experiments == 300
    assert report.true_gain > 0
    assert report.converged < ROUNDS * SYNC_SECONDS
