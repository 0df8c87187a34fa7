"""What is said of a node, from its ledger alone."""

import logging
import math
from pathlib import Path

import pytest

from node.journal import IN_MEMORY, Flight, Journal
from node.keep import Keeper
from node.outcome import clip, result_of
from node.records import Records
from node.snapshot import MAX_TIERS, Snapshot, level, summary_of
from protocol.ledger import Ledger
from protocol.records import Record, Result, seal
from protocol.statements import MAX_DIFF_BYTES, MAX_TEXT_BYTES, Origin, Status
from tests.protocol.world import SCHEME, SWARM, TIER, World, peer, rules
from trainer.device import Device
from trainer.job import Outcome
from trainer.program import load_program

NUMBERS = load_program(Path(__file__).parents[1] / "programs" / "numbers")
ME = peer("me").public_key


def held(*records: Record, **changes: object) -> Records:
    journal = Journal(IN_MEMORY)
    for record in records:
        journal.append(record)
    return Records(journal, rules(**changes), peer("me"), SWARM)


def picture(records: Records) -> Snapshot:
    blank = Snapshot.of(NUMBERS, TIER, ME, sandbox="none", version="1")
    return blank.with_ledger(records.ledger, records.chronicle)


@pytest.fixture
def world() -> World:
    return World()


def told(world: World) -> list[Record]:
    """Genesis twice, an accepted win of other's, my promising edit and my crash; a run in another tier."""
    world.child("win")
    world.child("next", of="win")
    world.child("crash", of="win")
    return [
        world.result("me", "genesis", 10.0, Origin.BASELINE, at_ms=1),
        world.result("other", "genesis", 10.0, Origin.REPLICATION, at_ms=2),
        world.result("other", "win", 5.0, at_ms=3, summary="half of it"),
        world.result("me", "win", 5.0, Origin.REPLICATION, at_ms=4),
        world.result("me", "next", 4.0, at_ms=5, summary="a bit more"),
        world.result("me", "crash", None, at_ms=6, summary="too much"),
        world.result("other", "genesis", 3.0, Origin.BASELINE, tier="gpu", at_ms=7),
    ]


def test_an_empty_home_has_a_picture() -> None:
    seen = picture(held())
    assert (seen.records, seen.incumbent, seen.global_best, seen.last) == (0, None, None, ())
    assert (seen.program, seen.metric_name) == ("numbers", "distance")


def test_the_ledger_is_told_in_the_programs_own_terms(world: World) -> None:
    seen = picture(held(*told(world)))
    assert seen.incumbent is not None
    assert (seen.incumbent.commit, seen.incumbent.metric) == (world.commit("win"), 5.0)
    assert seen.incumbent.peer == peer("other").peer_id
    assert (seen.incumbent.runs, seen.incumbent.summary) == (2, "half of it")
    assert set(seen.incumbents) == {TIER, "gpu"}
    assert (seen.promising, seen.accepted, seen.proven_count) == (1, 1, 0)
    assert set(seen.noise) == {TIER, "gpu"}
    assert (seen.experiments_total, seen.own_experiments) == (7, 4)
    assert seen.by_status == {"scored": 6, "crashed": 1}
    assert seen.by_origin == {"baseline": 2, "replication": 2, "agent": 3}


def test_tiers_are_peers_word_and_only_those_of_most_authors_are_looked_at(world: World) -> None:
    """A peer that names thousands of them neither fills the page nor keeps the node busy."""
    liar = [world.result("liar", "genesis", 1.0, Origin.BASELINE, tier=f"a-{number:03}") for number in range(100)]
    seen = picture(held(*told(world), world.result("me", "genesis", 9.0, Origin.BASELINE, tier="gpu"), *liar))
    assert {TIER, "gpu"} <= set(seen.incumbents)
    assert len(seen.incumbents) == len(seen.noise) == MAX_TIERS + 1


def test_rows_are_newest_first_and_carry_their_standing(world: World) -> None:
    rows = picture(held(*told(world))).last
    assert [row.created_ms for row in rows] == [7, 6, 5, 4, 3, 2, 1]
    assert [row.standing for row in rows] == [
        "proven", "", "promising", "accepted", "accepted", "proven", "proven",
    ]  # fmt: skip
    assert rows[3].summary == "half of it"  # a replication tells what it replicates
    assert rows[1].metric is None
    assert rows[1].status is Status.CRASHED


def test_a_goal_to_maximise_is_shown_as_it_was_measured(world: World) -> None:
    world.child("win")
    records = held(
        world.result("me", "genesis", 1.0, Origin.BASELINE),
        world.result("me", "genesis", 1.0, Origin.REPLICATION),
        world.result("me", "win", 9.0),
        world.result("me", "win", 9.0, Origin.REPLICATION),
        maximize=True,
    )
    best = picture(records).global_best
    assert best is not None
    assert (best.commit, best.metric) == (world.commit("win"), 9.0)


def test_what_is_not_there_has_no_level() -> None:
    assert level(None) == ""
    assert summary_of(Ledger(rules()), "c" * 40) == ""


class Notebook:
    """Takes down what a keeper publishes."""

    def __init__(self) -> None:
        self.best: list[str] = []
        self.notes: dict[str, str] = {}

    async def publish(self, best: str, notes: dict[str, str]) -> None:
        self.best.append(best)
        self.notes |= notes

    async def obtain(self, commit: str) -> bytes:
        return b""


async def test_the_keeper_publishes_what_is_new_and_nothing_twice(world: World) -> None:
    records, notebook = held(*told(world)[:4]), Notebook()
    keeper = Keeper(records, notebook, notebook, NUMBERS.spec, TIER)  # type: ignore[arg-type]
    await keeper.follow()
    await keeper.follow()
    win = world.commit("win")
    assert notebook.best == [win]
    assert notebook.notes[win] == f"distance 5 (accepted, 2 runs, {TIER}): half of it"
    assert set(notebook.notes) == {SCHEME.genesis, win}
    records.take(world.result("third", "win", 6.0, Origin.REPLICATION))
    await keeper.follow()
    assert notebook.best == [win, win]
    assert "distance 5.33333 (accepted, 3 runs" in notebook.notes[win]


async def test_a_best_that_comes_back_is_told_as_fully_as_before(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A confirmation showed that the win was luck; of genesis nothing new is known."""
    caplog.set_level(logging.INFO)
    records, notebook = held(*told(world)[:2]), Notebook()
    keeper = Keeper(records, notebook, notebook, NUMBERS.spec, TIER)  # type: ignore[arg-type]
    await keeper.follow()
    for record in told(world)[2:4]:
        records.take(record)
    await keeper.follow()
    records.take(world.result("third", "win", 30.0, Origin.CONFIRMATION))
    records.take(world.result("fourth", "win", 30.0, Origin.CONFIRMATION))
    await keeper.follow()
    assert notebook.best == [SCHEME.genesis, world.commit("win"), SCHEME.genesis]
    lines = [line for line in caplog.messages if line.startswith("best is")]
    assert len(lines) == 3
    assert lines[0] == lines[2]


FLIGHT = Flight(SCHEME.candidate(SCHEME.genesis, "0" * 40), SCHEME.genesis, Origin.AGENT, 0)
DEVICE = Device("cpu", "a cpu", TIER, "python")


def statement(outcome: Outcome, old: bytes = b"a\n", asset: bytes = b"b\n", **said: str) -> Result:
    flight = Flight(FLIGHT.commit, FLIGHT.parent, FLIGHT.origin, FLIGHT.index, **said)
    return result_of(
        flight, outcome, old=old, asset=asset, path="train.py", author=ME, device=DEVICE, tunables={},
        sequence=0, created_ms=1,
    )  # fmt: skip


@pytest.mark.parametrize("metric", [math.nan, math.inf, -1e300])
def test_a_metric_that_is_no_measurement_is_rejected_and_can_be_told(metric: float) -> None:
    result = statement(Outcome(Status.SCORED, metric=metric))
    assert result.status is Status.REJECTED
    seal(peer("me"), SWARM, result)


def test_whatever_a_run_comes_to_can_be_told() -> None:
    wild = Outcome(
        Status.CRASHED, cpu_seconds=1e9, wall_seconds=7, peak_memory=2**60, failure="\udcff" + "é" * 4000,
        curve=tuple((n / 100, 1.0) for n in range(100)),
    )  # fmt: skip
    seal(peer("me"), SWARM, statement(wild, summary="x" * 9000))
    assert len(clip("é" * 4000).encode()) <= MAX_TEXT_BYTES


def test_a_diff_over_its_bound_is_left_to_be_fetched() -> None:
    noise = b"".join(b"%d\n" % (n * 7919**3 % 10**12) for n in range(12_000))
    result = statement(Outcome(Status.SCORED, metric=1.0), asset=noise)
    assert result.diff == b""
    assert result.lines_added == 12_000
    small = statement(Outcome(Status.SCORED, metric=1.0))
    assert 0 < len(small.diff) <= MAX_DIFF_BYTES
