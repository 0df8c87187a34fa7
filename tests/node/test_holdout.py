"""The hold-out: when it is scored, what it warns of, and that no proposer hears of it."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from gossip.memory import MemoryNetwork
from node.holdout import drift, gap
from node.journal import Flight
from node.promise import bar
from node.snapshot import Chronicle, Snapshot
from protocol.ledger import Ledger
from protocol.records import Record
from protocol.statements import Origin
from tests.node.nodes import NUMBERS, build, until
from tests.protocol.world import TIER, World, ledger_of, peer
from tests.sim.fakes import FakeTrainer
from trainer.job import Job, Outcome, Progress


def picture(ledger: Ledger) -> Snapshot:
    me = peer("me").public_key
    return Snapshot.of(NUMBERS, TIER, me, sandbox="none", version="1").with_ledger(ledger, Chronicle(me))


@pytest.fixture
def world() -> World:
    made = World()
    made.child("win")
    made.child("next", of="win")
    return made


def story(world: World, *steps: tuple[str, float, float | None]) -> list[Record]:
    """Each candidate run twice by two authors, with this metric and hold-out."""
    return [
        world.result(author, name, metric, origin, holdout=holdout)
        for name, metric, holdout in steps
        for author, origin in (
            ("me", Origin.BASELINE if name == "genesis" else Origin.AGENT),
            ("other", Origin.REPLICATION),
        )
    ]


# ---- the bar


def flight(world: World, of: str, origin: Origin = Origin.AGENT) -> Flight:
    return Flight("d" * 40, world.commit(of), origin, 0)


def test_a_new_edit_must_beat_what_it_was_made_on(world: World) -> None:
    ledger = ledger_of(*story(world, ("genesis", 10.0, None), ("win", 5.0, None)), world.result("me", "next", 7.0))
    assert bar(ledger, TIER, flight(world, "genesis"), 0) == 10.0
    assert bar(ledger, TIER, flight(world, "win"), 0) == 5.0
    assert bar(ledger, TIER, flight(world, "next"), 0) == 5.0, "that one was not accepted"


def test_the_bar_counts_lines_and_the_goal(world: World) -> None:
    genesis = story(world, ("genesis", 10.0, None))
    priced = ledger_of(*genesis, simplicity=0.5)
    assert bar(priced, TIER, flight(world, "genesis"), 4) == 8.0
    assert bar(priced, TIER, flight(world, "genesis"), -4) == 12.0
    assert bar(ledger_of(*genesis, simplicity=0.5, maximize=True), TIER, flight(world, "genesis"), 4) == 12.0


@pytest.mark.parametrize(("maximize", "always"), [(False, math.inf), (True, -math.inf)])
def test_runs_that_decide_beat_it_always(world: World, maximize: bool, always: float) -> None:
    ledger = ledger_of(*story(world, ("genesis", 10.0, None)), maximize=maximize)
    for origin in (Origin.REPLICATION, Origin.CONFIRMATION):
        assert bar(ledger, TIER, flight(world, "genesis", origin), 0) == always
    assert bar(ledger, TIER, Flight("d" * 40, None, Origin.BASELINE, 0), 0) == always
    assert bar(ledger_of(maximize=maximize), TIER, flight(world, "genesis"), 0) == always


# ---- the gap


def test_the_gap_is_how_much_worse_the_hold_out_is(world: World) -> None:
    records = story(world, ("genesis", 10.0, 10.0), ("win", 5.0, 6.5))
    assert picture(ledger_of(*records)).holdout_gaps == {TIER: 1.5}
    assert gap(ledger_of(*records, maximize=True), world.commit("win"), TIER) == -1.5
    assert picture(ledger_of(*story(world, ("genesis", 10.0, None)))).holdout_gaps == {}


@pytest.mark.parametrize(
    ("steps", "drifts"),
    [
        ([("genesis", 10.0, 10.0), ("win", 5.0, 5.5)], False),
        ([("genesis", 10.0, 10.0), ("win", 5.0, 11.0)], False),  # within the noise of 1
        ([("genesis", 10.0, 10.0), ("win", 5.0, 15.0)], True),
        ([("genesis", 10.0, 20.0), ("win", 5.0, 10.0), ("next", 1.0, 19.0)], True),
        ([("genesis", 10.0, None), ("win", 5.0, 15.0)], False),
        ([("genesis", 10.0, 10.0), ("win", 5.0, None)], False),
    ],
)
def test_a_hold_out_that_rises_while_the_metric_falls(
    world: World, steps: list[tuple[str, float, float | None]], drifts: bool
) -> None:
    ledger = ledger_of(*story(world, *steps))
    assert drift(ledger, TIER) == (world.commit(steps[-1][0]) if drifts else "")


def test_an_empty_ledger_drifts_nowhere() -> None:
    assert drift(ledger_of(), TIER) == ""


# ---- whole nodes

HOLDOUT = 777.125


class Examined(FakeTrainer):
    """Scores the hold-out of what beats its bar, the worse the better the metric is."""

    def __init__(self) -> None:
        super().__init__(NUMBERS.spec.budget_seconds, 0.0005)
        self.bars: list[tuple[float | None, float, float | None]] = []

    async def run(self, job: Job, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
        outcome = await super().run(job, on_progress)
        assert outcome.metric is not None
        assert job.bar is not None
        holdout = HOLDOUT - 100 * outcome.metric if outcome.metric < job.bar else None
        self.bars.append((job.bar, outcome.metric, holdout))
        return replace(outcome, holdout=holdout)


async def test_no_proposer_hears_of_the_hold_out(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    trainer = Examined()
    one = build(MemoryNetwork(seed=1), 1, {"x": 0.7}, {"y": 1.0}, trainer=trainer)
    with caplog.at_level(logging.WARNING):
        async with trio.open_nursery() as nursery:
            await nursery.start(one.node.run)
            await until(lambda: len(one.script.contexts) >= 3 and one.snapshot().experiments_total >= 5, 3600, one)
            nursery.cancel_scope.cancel()
    held = [run.result.holdout for commit in one.node.records.ledger.commits() for run in
            one.node.records.ledger.runs(commit)]  # fmt: skip
    assert {holdout for *_, holdout in trainer.bars} == set(held)
    assert None in held, "an edit that is worse is not examined further"
    said = [value for value in held if value is not None]
    assert len(said) >= 4
    for context in one.script.contexts:
        words = repr(context)
        assert "holdout" not in words
        assert not any(repr(value) in words or f"{value:.4g}" in words for value in said)
    assert len([line for line in caplog.messages if "its hold-out is worse" in line]) == 1
    assert one.snapshot().holdout_gaps
