"""Eight nodes are there sooner than one, by whole nodes on a virtual clock; the figures are tests/sim/speedup.py's."""

import math

import pytest
import trio
from trio.testing import MockClock

import agent.local_search
from tests.bench.local_search import TABLE, Process, Table
from tests.sim.nights import Night, World, inline, night
from trainer.program import load_program

pytestmark = pytest.mark.slow

SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def world() -> World:
    return World(Process, Table(TABLE))


def nights(world: World, count: int, gain: float) -> list[Night]:
    program = load_program("lm-mini")
    return [
        trio.run(night, world, program, count, seed, (gain,), clock=MockClock(autojump_threshold=0)) for seed in SEEDS
    ]


def test_more_nodes_are_there_sooner(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.local_search, "trio", agent.local_search.trio)  # what ``inline`` changes is put back
    inline()
    alone, many = nights(world, 1, 0.1), nights(world, 8, 0.1)
    assert all(math.isfinite(one.budgets[0.1]) for one in alone + many)
    assert 3 * sum(one.budgets[0.1] for one in many) < sum(one.budgets[0.1] for one in alone)
    assert nights(world, 1, 0.1) == alone  # seeded
