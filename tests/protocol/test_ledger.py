"""The ledger's rules, one by one, by their numbers in DESIGN section 5; and the lies that each must
withstand.
"""

import math
import random
from dataclasses import replace

import pytest

from protocol import codec
from protocol.errors import RemoteProtocolError
from protocol.ledger import Ledger
from protocol.noise import MAX_SPREAD, ExactSum, yardstick
from protocol.records import Record, open_record, seal
from protocol.standing import Standing
from protocol.statements import Claim, Note, Origin, Result, Status, run_seed
from tests.protocol.world import SWARM, TIER, World, ledger_of, peer, rules

AGENT, REPLICATION, CONFIRMATION = Origin.AGENT, Origin.REPLICATION, Origin.CONFIRMATION


@pytest.fixture
def world() -> World:
    world = World()
    world.child("a")
    world.child("b", of="a")
    world.child("other")
    return world


def genesis(world: World, loss: float = 10.0) -> list[Record]:
    return [
        world.result("ada", "genesis", loss, Origin.BASELINE),
        world.result("bob", "genesis", loss, Origin.REPLICATION),
    ]


def standing(ledger: Ledger, world: World, name: str) -> Standing:
    found = ledger.standing(world.commit(name), TIER)
    assert found is not None
    return found


# what is let in


def test_a_commit_must_follow_from_parent_and_asset(world: World) -> None:
    honest = world.result("ada", "a", 1.0).result
    assert honest is not None
    forged = replace(honest, blob="0" * 40)
    with pytest.raises(RemoteProtocolError, match="commit"):
        Ledger(rules()).add(seal(peer("ada"), SWARM, forged))


def test_genesis_is_one_commit_only(world: World) -> None:
    honest = world.result("ada", "a", 1.0).result
    assert honest is not None
    with pytest.raises(RemoteProtocolError, match="commit"):
        Ledger(rules()).add(seal(peer("ada"), SWARM, replace(honest, parent=None)))


def test_a_forged_parent_is_refused_also_once_the_commit_is_known(world: World) -> None:
    record = world.result("ada", "b", 1.0)
    ledger = ledger_of(record)
    honest = record.result
    assert honest is not None
    forged = replace(honest, parent=world.commit("other"))
    with pytest.raises(RemoteProtocolError, match="commit"):
        ledger.add(seal(peer("ada"), SWARM, forged))
    assert len(ledger) == 1


def test_a_seed_must_be_the_prescribed_one(world: World) -> None:
    result = world.result("ada", "a", 1.0).result
    assert result is not None
    record = Record(1, SWARM, peer("bob").public_key, b"", b"", statement=result)  # ada's seed, bob's name
    with pytest.raises(RemoteProtocolError, match="seed"):
        Ledger(rules()).add(record)


def test_what_is_said_only_to_who_listens_is_not_kept(world: World) -> None:
    claim = Claim(1, world.commit("a"), AGENT, TIER, {}, "", 1.0)
    with pytest.raises(RemoteProtocolError):
        Ledger(rules()).add(seal(peer("ada"), SWARM, claim))


def test_notes_and_unknown_kinds_are_kept_and_mean_nothing(world: World) -> None:
    note = seal(peer("ada"), SWARM, Note(1, 1, "depth beats width", ()))
    unknown = Record(77, SWARM, peer("ada").public_key, codec.encode({}), b"")
    ledger = ledger_of(note, unknown)
    assert len(ledger) == 2
    assert ledger.tiers() == []
    assert ledger.global_best() is None


# rule 1: noise


def test_noise_begins_as_stated_and_learns_from_repeats(world: World) -> None:
    assert Ledger(rules(noise=0.5)).sigma(TIER) == 0.5
    ledger = ledger_of(
        world.result("ada", "genesis", 10.0, Origin.BASELINE),
        world.result("ada", "genesis", 13.0, Origin.REPLICATION),
    )
    assert ledger.sigma(TIER) == pytest.approx(math.sqrt((4 * 1 + 4.5) / (4 + 1)))


def test_noise_leaves_out_runs_that_were_selected(world: World) -> None:
    ledger = ledger_of(
        *genesis(world), world.result("ada", "a", 1.0), world.result("ada", "a", 9.0, REPLICATION)
    )
    assert ledger.sigma(TIER) == 1.0


def test_noise_is_not_widened_by_authors_who_contradict_each_other(world: World) -> None:
    ledger = ledger_of(
        world.result("ada", "genesis", 1.0, CONFIRMATION), world.result("eve", "genesis", 1e9, CONFIRMATION)
    )
    assert ledger.sigma(TIER) == 1.0


def test_a_liars_spread_is_bounded(world: World) -> None:
    wild = [
        world.result("eve", name, i * 1e50, CONFIRMATION, i) for name in ("a", "b", "other") for i in range(6)
    ]
    wild += [world.result("eve", "genesis", 0.0, Origin.BASELINE), world.result("ada", "a", 1.0)]
    assert 1.0 < ledger_of(*wild).sigma(TIER) < MAX_SPREAD


def test_a_liars_steadiness_is_bounded(world: World) -> None:
    """Thousands of equal runs count no more than the cap of one author's degrees of freedom."""
    steady = []
    for number in range(100):
        name = world.child(f"s{number}")
        steady += [world.result("eve", name, 5.0, CONFIRMATION, i) for i in range(6)]
    ledger = ledger_of(world.result("ada", "genesis", 10.0, Origin.BASELINE), *steady)
    assert ledger.sigma(TIER) == pytest.approx(math.sqrt(4 / 34))


def test_sums_are_exact_in_any_order() -> None:
    values = [1e200, 1.0, -1e-300, 1e-17, 3.3] * 3
    rng = random.Random(1)
    totals = set()
    for _ in range(10):
        total = ExactSum()
        for value in rng.sample(values, len(values)):
            total.add(value)
        total.subtract(1e200)
        totals.add(total.value)
    assert len(totals) == 1


@pytest.mark.parametrize("sigma", [1e-300, 0.006, 0.99, 1.0, 1.01, 3e7])
def test_the_yardstick_is_never_short_and_never_far_off(sigma: float) -> None:
    assert sigma <= yardstick(sigma) <= sigma * (1 + 1 / 16)
    assert yardstick(yardstick(sigma)) == yardstick(sigma)


# rule 2: value


def test_value_is_the_mean_over_all_runs(world: World) -> None:
    ledger = ledger_of(
        *genesis(world), world.result("ada", "a", 8.0), world.result("ada", "a", 9.0, REPLICATION),
        world.result("bob", "a", 8.2, REPLICATION),
    )  # fmt: skip
    assert ledger.value(world.commit("a"), TIER) == pytest.approx(25.2 / 3)
    assert standing(ledger, world, "a").runs == 3


def test_maximising_negates(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 12.0), maximize=True)
    value = ledger.value(world.commit("a"), TIER)
    assert value == -12.0
    assert ledger.to_metric(value) == 12.0
    assert standing(ledger, world, "a").promising


def test_six_runs_an_author_count_the_unselected_first(world: World) -> None:
    runs = [world.result("ada", "a", 1.0)]
    runs += [world.result("ada", "a", 5.0, REPLICATION, i) for i in range(4)]
    runs += [world.result("ada", "a", 6.0, CONFIRMATION, i) for i in range(3)]
    ledger = ledger_of(*genesis(world), *runs)
    assert ledger.value(world.commit("a"), TIER) == pytest.approx((3 * 6 + 3 * 5) / 6)


def test_labels_buy_no_more_draws_than_there_are_labels(world: World) -> None:
    """A liar may run many seeds and show the lucky ones: each label's first index is all that he can hide
    behind.
    """
    lucky = [world.result("eve", "a", 1.0, origin) for origin in Origin]
    ledger = ledger_of(
        *genesis(world), *lucky, *[world.result(p, "a", 9.0, REPLICATION) for p in ("ada", "bob")]
    )
    assert standing(ledger, world, "a").runs == 2
    assert ledger.value(world.commit("a"), TIER) == 9.0


def test_runs_beyond_a_gap_do_not_count_until_it_is_filled(world: World) -> None:
    lucky = world.result("eve", "a", 1.0, REPLICATION, 1)
    ledger = ledger_of(*genesis(world), lucky)
    assert ledger.value(world.commit("a"), TIER) is None
    ledger.add(world.result("eve", "a", 3.0, REPLICATION, 0))
    assert ledger.value(world.commit("a"), TIER) == 2.0
    assert ledger.next_index(world.commit("a"), TIER, peer("eve").public_key, REPLICATION) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_stories_about_one_run_the_worse_counts(world: World, order: int) -> None:
    stories = [world.result("eve", "a", 1.0), world.result("eve", "a", 7.0, summary="again")][::order]
    assert ledger_of(*genesis(world), *stories).value(world.commit("a"), TIER) == 7.0
    crash = world.result("eve", "a", None)
    assert ledger_of(*genesis(world), *stories, crash).value(world.commit("a"), TIER) is None


@pytest.mark.parametrize("order", [1, -1])
def test_a_story_taken_back_counts_no_more(world: World, order: int) -> None:
    stories = [world.result("eve", "a", 1.0), world.result("eve", "a", None, status=Status.STOPPED_EARLY)]
    ledger = ledger_of(*genesis(world), *stories[::order])
    assert ledger.averages(world.commit("a"), TIER) == {}


def test_of_two_who_disagree_the_worse_counts_until_a_third_decides(world: World) -> None:
    ledger = ledger_of(
        *genesis(world), world.result("eve", "a", 0.1), world.result("ada", "a", 9.5, REPLICATION)
    )
    assert ledger.value(world.commit("a"), TIER) == 9.5
    assert standing(ledger, world, "a").disputed
    ledger.add(world.result("bob", "a", 9.3, REPLICATION))
    assert ledger.value(world.commit("a"), TIER) == pytest.approx(9.4)
    assert not standing(ledger, world, "a").disputed


def test_a_replicator_who_says_1e9_is_outvoted_by_a_third(world: World) -> None:
    ledger = ledger_of(
        *genesis(world), world.result("ada", "a", 8.0), world.result("eve", "a", 1e9, REPLICATION)
    )
    assert not standing(ledger, world, "a").promising
    ledger.add(world.result("bob", "a", 8.2, REPLICATION))
    assert standing(ledger, world, "a").accepted
    assert ledger.value(world.commit("a"), TIER) == pytest.approx(8.1)


def test_where_most_authors_fail_there_is_no_value(world: World) -> None:
    ledger = ledger_of(
        *genesis(world), world.result("eve", "a", 0.1), world.result("ada", "a", None, REPLICATION)
    )
    assert ledger.value(world.commit("a"), TIER) is None
    assert standing(ledger, world, "a").disputed
    ledger.add(world.result("bob", "a", None, REPLICATION))
    assert not standing(ledger, world, "a").disputed
    assert not standing(ledger, world, "a").promising


def test_one_who_fails_alone_is_outvoted(world: World) -> None:
    runs = [world.result("ada", "a", 8.0), world.result("bob", "a", 8.2, REPLICATION)]
    ledger = ledger_of(*genesis(world), *runs, world.result("eve", "a", None, REPLICATION))
    assert standing(ledger, world, "a").accepted


def test_stopping_early_says_nothing_against_a_candidate(world: World) -> None:
    stopped = world.result("bob", "a", None, status=Status.STOPPED_EARLY)
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0), stopped)
    assert ledger.value(world.commit("a"), TIER) == 8.0


def test_no_standing_until_all_ancestors_are_known(world: World) -> None:
    ledger = ledger_of(
        *genesis(world), world.result("ada", "b", 5.0), world.result("bob", "b", 5.0, REPLICATION)
    )
    b = world.commit("b")
    assert not ledger.known(b)
    assert ledger.standing(b, TIER) is None
    assert ledger.lineage(b) == []
    assert ledger.missing() == {world.commit("a")}
    ledger.add(world.result("eve", "a", None, tier="elsewhere"))
    assert standing(ledger, world, "b").accepted
    assert ledger.lineage(b) == [world.commit(name) for name in ("genesis", "a", "b")]


# rules 3 and 4: promising, accepted


def test_promising_beats_the_nearest_accepted_ancestor_after_the_price(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 9.0, lines=9), simplicity=0.1)
    assert standing(ledger, world, "a").gain == pytest.approx(0.1)
    dear = ledger_of(*genesis(world), world.result("ada", "a", 9.0, lines=11), simplicity=0.1)
    assert not standing(dear, world, "a").promising
    simpler = ledger_of(*genesis(world), world.result("ada", "a", 10.5, lines=-6), simplicity=0.1)
    assert standing(simpler, world, "a").promising


def test_the_price_adds_up_along_the_chain(world: World) -> None:
    runs = [world.result("ada", "a", 9.9, lines=10), world.result("ada", "b", 8.5, lines=10)]
    assert not standing(ledger_of(*genesis(world), *runs, simplicity=0.1), world, "b").promising


def test_who_lies_about_lines_is_corrected_by_the_next_author(world: World) -> None:
    runs = [world.result("eve", "a", 9.9, lines=-1000), world.result("bob", "a", 9.9, REPLICATION, lines=30)]
    assert standing(ledger_of(*genesis(world), runs[0], simplicity=0.1), world, "a").promising
    assert not standing(ledger_of(*genesis(world), *runs, simplicity=0.1), world, "a").promising


def test_accepted_after_the_runs_that_the_program_asks_for(world: World) -> None:
    first, second, third = (world.result(name, "a", 9.0, REPLICATION) for name in ("ada", "bob", "cyd"))
    assert not standing(ledger_of(*genesis(world), first), world, "a").accepted
    assert standing(ledger_of(*genesis(world), first, second), world, "a").accepted
    assert not standing(ledger_of(*genesis(world), first, second, replications=3), world, "a").accepted
    assert standing(ledger_of(*genesis(world), first, second, third, replications=3), world, "a").accepted


def test_a_lucky_draw_wears_off(world: World) -> None:
    ledger = ledger_of(
        *genesis(world), world.result("ada", "a", 9.0), world.result("bob", "a", 10.5, REPLICATION)
    )
    assert standing(ledger, world, "a").accepted
    ledger.add(world.result("cyd", "a", 11.0, REPLICATION))
    assert not standing(ledger, world, "a").accepted
    incumbent = ledger.incumbent(TIER)
    assert incumbent is not None
    assert incumbent.commit == world.commit("genesis")


def test_a_childs_bar_is_the_nearest_accepted_ancestor(world: World) -> None:
    runs = [world.result("ada", "a", 7.0), world.result("ada", "b", 8.0)]
    ledger = ledger_of(*genesis(world), *runs)
    assert standing(ledger, world, "b").promising  # a is not accepted: genesis is the bar
    ledger.add(world.result("bob", "a", 7.0, REPLICATION))
    assert not standing(ledger, world, "b").promising
    assert standing(ledger, world, "b").base == world.commit("a")


def test_nothing_is_promising_before_genesis_was_run(world: World) -> None:
    ledger = ledger_of(world.result("ada", "genesis", 1.0, tier="elsewhere"), world.result("ada", "a", 1.0))
    assert not standing(ledger, world, "a").promising
    assert ledger.incumbent(TIER) is None


def test_anything_that_runs_beats_a_genesis_that_fails(world: World) -> None:
    runs = [world.result(name, "a", 50.0, REPLICATION) for name in ("ada", "bob")]
    ledger = ledger_of(world.result("ada", "genesis", None, Origin.BASELINE), *runs)
    assert standing(ledger, world, "a").accepted


def test_ties_go_by_commit_id(world: World) -> None:
    runs = [world.result(p, name, 9.0, REPLICATION) for name in ("a", "other") for p in ("ada", "bob")]
    incumbent = ledger_of(*genesis(world), *runs).incumbent(TIER)
    assert incumbent is not None
    assert incumbent.commit == min(world.commit("a"), world.commit("other"))


def test_tiers_do_not_compare_and_the_global_best_is_over_all(world: World) -> None:
    elsewhere = [world.result(p, "genesis", 3.0, CONFIRMATION, tier="gpu") for p in ("ada", "bob")]
    ledger = ledger_of(*genesis(world), *elsewhere, world.result("ada", "a", 9.0))
    best = ledger.global_best()
    assert best is not None
    assert (best.tier, best.value) == ("gpu", 3.0)
    assert ledger.tiers() == [TIER, "gpu"]
    assert standing(ledger, world, "a").promising


# rule 5: proven


def confirmed(world: World, name: str, losses: list[float], author: str = "cyd") -> list[Record]:
    return [world.result(author, name, loss, CONFIRMATION, i) for i, loss in enumerate(losses)]


def accepted_a(world: World, loss: float = 8.0) -> list[Record]:
    return [*genesis(world), *[world.result(p, "a", loss, REPLICATION) for p in ("ada", "bob")]]


def test_proven_by_confirmations_alone(world: World) -> None:
    ledger = ledger_of(*accepted_a(world, 1.0), *confirmed(world, "genesis", [10.0, 10.0]))
    assert not standing(ledger, world, "a").proven  # 9 σ better, yet by runs that accepted it
    for record in confirmed(world, "a", [4.0, 4.0]):
        ledger.add(record)
    assert standing(ledger, world, "a").proven
    best = ledger.proven_best(TIER)
    assert best is not None
    assert (best.commit, best.confirmed, best.confirmations) == (world.commit("a"), 4.0, 2)


@pytest.mark.parametrize(("gain", "proven"), [(1.8, False), (2.3, True)])
def test_three_sigma_of_the_difference(world: World, gain: float, proven: bool) -> None:
    """Six confirmations each, σ held near its prior: the gap is 3 σ √(2/6) = 1.73 σ."""
    spread = [-1.2, -0.6, -0.3, 0.3, 0.6, 1.2]
    ledger = ledger_of(
        *accepted_a(world),
        *confirmed(world, "genesis", [10 + x * 1.3 for x in spread]),
        *confirmed(world, "a", [10 - gain + x * 1.3 for x in spread]),
    )
    assert ledger.yardstick(TIER) == pytest.approx(1.1, abs=0.15)
    assert standing(ledger, world, "a").proven == proven


def test_small_steps_add_up_until_their_sum_is_proven(world: World) -> None:
    world.child("c", of="b")
    steps = [*genesis(world)]
    for name, loss in (("a", 9.0), ("b", 8.0), ("c", 7.0)):
        steps += [world.result(p, name, loss, REPLICATION) for p in ("ada", "bob")]
        steps += confirmed(world, name, [loss, loss])
    ledger = ledger_of(*steps, *confirmed(world, "genesis", [10.0, 10.0]))
    assert ledger.yardstick(TIER) < 0.8
    assert [standing(ledger, world, name).proven for name in "abc"] == [False, False, True]
    ancestor = ledger.proven_ancestor(world.commit("b"), TIER)
    assert ancestor is not None
    assert ancestor.commit == world.commit("genesis")


def test_six_confirmations_count_whoever_adds_more(world: World) -> None:
    flood = [r for p in ("eve", "eva", "evi") for r in confirmed(world, "a", [8.0] * 4, p)]
    ledger = ledger_of(*accepted_a(world), *confirmed(world, "a", [8.0] * 6), *flood)
    assert standing(ledger, world, "a").confirmations == 6


def test_one_liar_among_the_confirmers_proves_nothing(world: World) -> None:
    lie = [world.result("eve", "a", 0.1, CONFIRMATION)]
    honest = [world.result(p, "a", 8.0, CONFIRMATION) for p in ("ada", "bob")]
    ledger = ledger_of(*accepted_a(world), *confirmed(world, "genesis", [8.2] * 3), *lie, *honest)
    assert standing(ledger, world, "a").confirmed == 8.0
    assert not standing(ledger, world, "a").proven


def test_genesis_is_accepted_and_proven_before_it_was_run(world: World) -> None:
    ledger = ledger_of(world.result("ada", "a", 1.0))
    assert ledger.accepted(TIER) == []  # its lineage is not known
    ledger.add(world.result("ada", "genesis", 1.0, tier="elsewhere"))
    assert ledger.accepted(TIER) == ledger.proven(TIER) == [world.commit("genesis")]


# rule 7: verdicts


def test_a_veto_holds_for_all_descendants(world: World) -> None:
    founder = peer("ada").public_key
    runs = [
        world.result(p, name, loss, REPLICATION)
        for name, loss in (("a", 8.0), ("b", 7.0))
        for p in ("ada", "bob")
    ]
    ledger = ledger_of(*genesis(world), *runs, founder=founder)
    assert standing(ledger, world, "b").accepted
    ledger.add(world.verdict("ada", "a", approve=False, sequence=1))
    assert not standing(ledger, world, "b").accepted
    assert standing(ledger, world, "b").vetoed
    assert ledger.promising(TIER) == []  # nobody should replicate it
    ledger.add(world.verdict("ada", "a", approve=True, sequence=2))
    assert standing(ledger, world, "b").accepted
    ledger.add(world.verdict("ada", "a", approve=False, sequence=2))
    assert standing(ledger, world, "b").vetoed  # a tie is a veto


def test_nobody_but_the_founder_has_a_verdict(world: World) -> None:
    veto = world.verdict("eve", "a", approve=False)
    assert standing(ledger_of(*accepted_a(world), veto), world, "a").accepted
    assert standing(ledger_of(*accepted_a(world), veto, founder=peer("ada").public_key), world, "a").accepted


def test_with_review_only_the_approved_are_accepted(world: World) -> None:
    ledger = ledger_of(*accepted_a(world), founder=peer("ada").public_key, review=True)
    assert not standing(ledger, world, "a").accepted
    assert ledger.promising(TIER) == [world.commit("a")]
    ledger.add(world.verdict("ada", "a", approve=True))
    assert standing(ledger, world, "a").accepted


# what others ask for


def test_runs_are_listed_even_where_they_do_not_count(world: World) -> None:
    runs = [world.result("ada", "a", 9.0), world.result("ada", "a", 8.0, REPLICATION, 5)]
    runs += [world.result("ada", "a", 7.0, tier="gpu")]
    ledger = ledger_of(*runs)
    a = world.commit("a")
    assert {run.record_id for run in ledger.runs(a)} == {record.id for record in runs}
    assert [run.loss for run in ledger.runs(a, "gpu")] == [7.0]
    assert ledger.runs(world.commit("b")) == []
    candidate = ledger.candidate(a)
    assert candidate is not None
    assert candidate.parent == world.commit("genesis")


def test_mutated_records_raise_only_remote_errors(world: World) -> None:
    """What survives ``open_record`` after a mutation is refused by the ledger with the same one error, or is
    true.
    """
    rng = random.Random(7)
    ledger = Ledger(rules())
    result = world.result("ada", "a", 8.0).result
    assert result is not None
    for _ in range(300):
        changed = replace(result, **_mutation(rng, result))
        record = seal(
            peer("ada"),
            SWARM,
            replace(
                changed, seed=run_seed(changed.commit, peer("ada").public_key, changed.origin, changed.index)
            ),
        )
        wire = bytearray(record.wire)
        if rng.random() < 0.3:
            wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)
        try:
            ledger.add(open_record(bytes(wire), SWARM))
        except RemoteProtocolError:
            continue
    assert ledger.tiers() == [TIER]


def _mutation(rng: random.Random, result: Result) -> dict[str, object]:
    commits = [result.commit, result.blob, "f" * 40, rules().genesis]
    return rng.choice(
        [
            {"commit": rng.choice(commits)},
            {"parent": rng.choice([*commits, None]), "diff": b""},
            {"blob": rng.choice(commits)},
            {"origin": rng.choice(list(Origin)), "index": rng.randrange(64)},
            {"metric": rng.choice([0.0, -0.0, 1e100, -1e100, 5e-324])},
            {"status": Status.CRASHED, "metric": None},
            {"lines_added": 10**6, "lines_removed": rng.randrange(10**6)},
        ]
    )
