"""What to do next follows from the ledger and from what this node has done, and from nothing else."""

from dataclasses import replace

import pytest

from node import choose as choose_module
from node.choose import (
    RECOMBINE_SHARE,
    Action,
    Choice,
    View,
    choose,
    common_base,
    moved_wins,
    parts_to_add,
    reason_to_stop,
    search_base,
)
from protocol.ledger import Ledger
from protocol.statements import Origin
from tests.protocol.world import SCHEME, TIER, World, ledger_of, peer
from trainer.program import Stop

BUDGET_MS = 1000
LATE = 10**9


def view(ledger: Ledger, who: str = "me", **changes: object) -> View:
    base = View(ledger, peer(who).public_key, TIER, now_ms=LATE, budget_ms=BUDGET_MS)
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    return World()


def started(world: World, who: str = "me") -> list[object]:
    """Genesis run twice by ``who``."""
    return [
        world.result(who, "genesis", 10.0, Origin.BASELINE),
        world.result(who, "genesis", 10.0, Origin.REPLICATION),
    ]


def accepted(world: World, who: str, name: str, metric: float) -> list[object]:
    return [world.result(who, name, metric), world.result(who, name, metric, Origin.REPLICATION)]


def test_an_empty_ledger_asks_for_genesis(world: World) -> None:
    choice = choose(view(ledger_of()))
    assert choice.action is Action.RUN
    assert choice.duty is not None
    assert (choice.duty.commit, choice.duty.origin, choice.duty.index) == (SCHEME.genesis, Origin.BASELINE, 0)


def test_alone_genesis_is_run_twice_and_then_the_proposer_is_asked(world: World) -> None:
    first, second = started(world)
    again = choose(view(ledger_of(first)))
    assert again.duty is not None
    assert again.duty.commit == SCHEME.genesis
    assert choose(view(ledger_of(first, second))) == choose(view(ledger_of(second, first)))
    choice = choose(view(ledger_of(first, second)))
    assert (choice.action, choice.base) == (Action.ASK, SCHEME.genesis)


def test_a_late_joiner_runs_itself_what_only_one_author_tells(world: World) -> None:
    world.child("a")
    ledger = ledger_of(*started(world, "other"), *accepted(world, "other", "a", 5.0))
    choice = choose(view(ledger, "joiner"))
    assert choice.action is Action.RUN
    assert choice.commit == world.commit("a")


def test_a_win_whose_base_moved_is_rebased_once_and_the_better_one_stays(world: World) -> None:
    world.child("mine")
    world.child("theirs")
    ledger = ledger_of(
        *started(world),
        *accepted(world, "me", "mine", 8.0),
        *accepted(world, "other", "theirs", 5.0),
        world.result("me", "theirs", 5.0, Origin.REPLICATION),
    )
    mine, theirs = world.commit("mine"), world.commit("theirs")
    seen = view(ledger, proposed={mine})
    assert list(moved_wins(seen, theirs)) == [mine]
    assert list(moved_wins(replace(seen, rebased={mine}), theirs)) == []
    assert list(moved_wins(view(ledger, proposed={theirs}), mine)) == []  # it is the better one
    assert common_base(ledger, mine, theirs) == SCHEME.genesis


def test_a_win_that_the_incumbent_builds_on_is_not_rebased(world: World) -> None:
    world.child("a")
    world.child("b", of="a")
    ledger = ledger_of(*started(world), *accepted(world, "me", "a", 8.0), *accepted(world, "me", "b", 5.0))
    proposed = {world.commit("a"), world.commit("b")}
    assert list(moved_wins(view(ledger, proposed=proposed), world.commit("b"))) == []
    assert list(moved_wins(view(ledger, proposed=proposed), world.commit("a"))) == []


def test_nothing_is_put_on_a_lead_but_edits(world: World) -> None:
    """It may turn out to be nothing, and what was carried over to it is not carried over again."""
    world.child("mine"), world.child("theirs"), world.child("gone")
    wins = [world.result("me", "mine", 7.0), world.result("me", "mine", 7.0, Origin.REPLICATION),
            *accepted(world, "gone", "gone", 8.0)]  # fmt: skip
    ledger = ledger_of(*started(world), *started(world, "other"), *wins, world.result("other", "theirs", 4.0))
    seen = view(ledger, draw=0.0, proposed={world.commit("mine")}, live={peer("other").public_key}, now_ms=0,
                busy={world.commit("theirs")})  # fmt: skip  # another lane replicates it
    assert choose(seen) == Choice(Action.ASK, base=world.commit("theirs"))
    ledger.add(world.result("third", "theirs", 4.0, Origin.REPLICATION))
    assert choose(seen) == Choice(Action.REBASE, commit=world.commit("mine"), base=world.commit("theirs"))


def test_what_is_barred_is_neither_run_nor_searched_from(world: World) -> None:
    world.child("a")
    ledger = ledger_of(*started(world), *accepted(world, "me", "a", 5.0))
    barred = view(ledger, barred={world.commit("a")})
    choice = choose(barred)
    assert (choice.action, choice.base) == (Action.ASK, SCHEME.genesis)
    nothing = view(ledger, barred={world.commit("a"), SCHEME.genesis})
    assert choose(nothing).action is Action.WAIT


def test_stopping_criteria_hold_with_a_reason(world: World) -> None:
    world.child("a")
    ledger = ledger_of(*started(world), *accepted(world, "me", "a", 5.0))
    seen = view(ledger)
    never = Stop()
    assert reason_to_stop(never, seen, own_ms=[0] * 10, hours=99) == ""
    assert "10 experiments" in reason_to_stop(Stop(experiments=10), seen, own_ms=[0] * 10, hours=0)
    assert reason_to_stop(Stop(experiments=11), seen, own_ms=[0] * 10, hours=0) == ""
    assert "hours" in reason_to_stop(Stop(hours=2), seen, own_ms=[], hours=2.1)
    assert "target" in reason_to_stop(Stop(target=5.5), seen, own_ms=[], hours=0)
    assert reason_to_stop(Stop(target=4.5), seen, own_ms=[], hours=0) == ""
    assert "without an accepted" in reason_to_stop(Stop(patience=3), seen, own_ms=[0, 1, 2, 3], hours=0)
    assert reason_to_stop(Stop(patience=4), seen, own_ms=[0, 1, 2, 3], hours=0) == ""


def test_a_target_to_maximise_is_reached_from_below(world: World) -> None:
    ledger = ledger_of(*started(world), maximize=True)
    assert reason_to_stop(Stop(target=9.0), view(ledger), own_ms=[], hours=0)
    assert not reason_to_stop(Stop(target=11.0), view(ledger), own_ms=[], hours=0)


# what others found


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to replicate, confirm or check."""
    monkeypatch.setattr(choose_module, "_duties", lambda view: [])


@pytest.mark.usefixtures("free")
def test_a_win_of_one_who_has_left_is_put_together_with_the_incumbent(world: World) -> None:
    world.child("mine")
    world.child("theirs")
    ledger = ledger_of(
        *started(world), *accepted(world, "me", "mine", 5.0), *accepted(world, "gone", "theirs", 8.0),
        world.result("me", "theirs", 8.0, Origin.REPLICATION),
    )  # fmt: skip
    mine, theirs = world.commit("mine"), world.commit("theirs")
    seen = view(ledger, proposed={mine}, draw=0.0)
    assert choose(seen) == Choice(Action.RECOMBINE, commit=theirs, base=mine)
    assert choose(replace(seen, draw=0.99)).action is Action.ASK  # not every time
    assert choose(replace(seen, rebased={theirs})).action is Action.ASK  # and once
    assert list(parts_to_add(replace(seen, live=[peer("gone").public_key]), mine)) == []  # it is here, and will do so


def test_a_near_miss_is_put_together_with_the_incumbent_and_a_far_one_is_not(world: World) -> None:
    for name in ("mine", "near", "far"):
        world.child(name)
    ledger = ledger_of(
        *started(world), *accepted(world, "me", "mine", 5.0), world.result("other", "near", 10.01),
        world.result("other", "far", 30.0),
    )  # fmt: skip
    assert list(parts_to_add(view(ledger), world.commit("mine"))) == [world.commit("near")]


def test_peers_take_turns(world: World) -> None:
    world.child("mine")
    world.child("theirs")
    told = [*started(world), *accepted(world, "me", "mine", 5.0), world.result("gone", "theirs", 10.01)]
    ledger, names = ledger_of(*told), ["me", "two", "three", "four"]
    live = [peer(name).public_key for name in names]
    now_ms = ledger.latest_ms(world.commit("theirs"), TIER)

    def whose(passed: int) -> int:
        views = [view(ledger, name, live=live, now_ms=now_ms + passed * BUDGET_MS) for name in names]
        return sum(bool(list(parts_to_add(one, world.commit("mine")))) for one in views)

    assert [whose(passed) for passed in range(4)] == [1, 2, 3, 4]


@pytest.mark.usefixtures("free")
def test_the_incumbent_of_another_tier_is_tried_in_mine(world: World) -> None:
    world.child("theirs")
    other = "another-tier"
    ledger = ledger_of(
        *started(world), *(world.result("other", name, metric, origin, tier=other) for name, metric, origin in (
            ("genesis", 10.0, Origin.BASELINE), ("genesis", 10.0, Origin.REPLICATION),
            ("theirs", 2.0, Origin.AGENT), ("theirs", 2.0, Origin.REPLICATION),
        )),
    )  # fmt: skip
    choice = choose(view(ledger, draw=RECOMBINE_SHARE))
    assert choice.action is Action.RUN
    assert choice.duty is not None
    assert (choice.duty.commit, choice.duty.origin) == (world.commit("theirs"), Origin.TRANSPLANT)
    ledger.add(world.result("me", "theirs", 12.0, Origin.TRANSPLANT))
    assert choose(view(ledger, draw=RECOMBINE_SHARE)).action is Action.ASK  # it was tried


def test_one_node_in_eight_of_a_large_swarm_searches_elsewhere(world: World) -> None:
    world.child("best")
    world.child("second")
    told = [*started(world), *accepted(world, "me", "best", 2.0), *accepted(world, "me", "second", 3.0)]
    told += [world.result("other", name, metric) for name, metric in (("best", 2.0), ("second", 3.0))]
    names = [f"node {number}" for number in range(80)]
    live = [peer(name).public_key for name in names]
    bases = []
    for name in names:
        base = search_base(view(ledger_of(*told), name, live=live))
        assert base is not None
        bases.append(base)
    elsewhere = bases.count(world.commit("second"))
    assert 3 <= elsewhere <= 20
    assert bases.count(world.commit("best")) == 80 - elsewhere
    alone = search_base(view(ledger_of(*told), names[bases.index(world.commit("second"))]))
    assert alone == world.commit("best")
