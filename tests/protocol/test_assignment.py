"""Who runs what again: every peer works it out alone, and they agree."""

from typing import Any

import pytest

from protocol.assignment import ALONE_WAIT, AUDIT_HOLD, CLAIM_TURNS, PACE, Duty, duties
from protocol.ledger import Ledger
from protocol.records import Record
from protocol.standing import MAX_RUNS_AN_AUTHOR, place
from protocol.statements import Claim, Origin
from protocol.trust import audits
from tests.protocol.world import TIER, World, ledger_of, peer

BASELINE, REPLICATION, CONFIRMATION = Origin.BASELINE, Origin.REPLICATION, Origin.CONFIRMATION
BUDGET_MS = 60_000
NAMES = ("ada", "bob", "cyd", "dan")
KEYS = {name: peer(name).public_key for name in NAMES}


@pytest.fixture
def world() -> World:
    world = World()
    world.child("a")
    world.child("b")
    world.child("aa", of="a")
    return world


def genesis(world: World) -> list[Record]:
    """Everybody ran genesis, and so nobody has to look at it any more."""
    return [world.result(name, "genesis", 10.0, BASELINE) for name in NAMES]


def of(ledger: Ledger, name: str, **changes: Any) -> list[Duty]:
    asked: dict[str, Any] = {
        "tier": TIER, "live": KEYS.values(), "claims": (), "now_ms": 0, "since_ms": 0, "budget_ms": BUDGET_MS,
    }  # fmt: skip
    return duties(ledger, me=KEYS[name], **{**asked, **changes})


def order(world: World, name: str, *ran: str) -> list[str]:
    """Peers by rank for a candidate that ``ran`` have run."""
    commit = world.commit(name)
    return sorted(NAMES, key=lambda peer_name: (peer_name in ran, place(commit, KEYS[peer_name])))


def claim(world: World, name: str, origin: Origin = REPLICATION) -> Claim:
    return Claim(0, world.commit(name), origin, TIER, {}, "", 60.0)


def test_genesis_is_run_twice_at_the_start_of_a_tier(world: World) -> None:
    ledger = ledger_of()
    g = world.commit("genesis")
    assert of(ledger, "ada", live=()) == [Duty(g, TIER, BASELINE, 0, 0)]
    ledger.add(world.result("ada", "genesis", 10.0, BASELINE))
    # the same author, since that shows the noise
    assert of(ledger, "ada", live=()) == [Duty(g, TIER, REPLICATION, 0, 0)]
    ledger.add(world.result("ada", "genesis", 10.1, REPLICATION))
    assert of(ledger, "ada", live=()) == []


def test_a_promising_candidate_goes_to_one_other_peer(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0))
    first = order(world, "a", "ada")[0]
    assert first != "ada"
    assert of(ledger, first) == [Duty(world.commit("a"), TIER, REPLICATION, 0, 0)]
    assert all(of(ledger, name) == [] for name in NAMES if name != first)


def test_rank_k_takes_over_after_k_budgets_without_a_claim(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0, at_ms=1000))
    peers = order(world, "a", "ada")
    for rank, name in enumerate(peers):
        before, after = 1000 + rank * BUDGET_MS - 1, 1000 + rank * BUDGET_MS
        assert bool(of(ledger, name, now_ms=before)) == (rank == 0)
        assert [duty.rank for duty in of(ledger, name, now_ms=after)] == [rank]
    assert peers[-1] == "ada"  # the author comes last, and still comes


def test_a_claim_keeps_the_others_off(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0))
    first, second, *_ = order(world, "a", "ada")
    claims = [(KEYS[first], claim(world, "a"))]
    assert of(ledger, second, now_ms=2 * BUDGET_MS)
    assert not of(ledger, second, now_ms=2 * BUDGET_MS, claims=claims)
    assert of(ledger, first, claims=claims)  # my own claim does not stop me


def test_who_claims_and_tells_nothing_holds_others_off_for_a_bounded_time(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0))
    for count, turns in ((1, CLAIM_TURNS + 1), (100, CLAIM_TURNS + 7)):
        claims = [(number.to_bytes(32, "big"), claim(world, "a")) for number in range(count)]
        held_off = [all(not of(ledger, name, claims=claims, now_ms=turn * BUDGET_MS) for name in NAMES)
                    for turn in range(turns + 1)]  # fmt: skip
        assert held_off == [True] * turns + [False]


def test_the_claim_of_a_peer_that_misled_me_holds_nobody_off(world: World) -> None:
    lies = [world.result("cyd", "b", 1.0), world.result("bob", "b", 9.0, REPLICATION)]
    ledger = ledger_of(*genesis(world), *lies, world.result("ada", "a", 8.0))
    first = order(world, "a", "ada")[0]
    late = {"now_ms": 2 * BUDGET_MS, "claims": [(KEYS["cyd"], claim(world, "a"))]}
    assert world.commit("a") in [duty.commit for duty in of(ledger, "bob", **late)]
    assert first == "dan" or world.commit("a") not in [duty.commit for duty in of(ledger, "dan", **late)]


def test_the_claim_of_who_is_before_me_counts_once(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0), replications=3)
    first, second, *_ = order(world, "a", "ada")
    assert of(ledger, second, claims=[(KEYS[first], claim(world, "a"))])


def test_as_many_peers_as_runs_are_missing(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0), replications=3)
    assert {name for name in NAMES if of(ledger, name)} == set(order(world, "a", "ada")[:2])


def test_peers_who_are_gone_are_not_waited_for(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0))
    first, second, *_ = order(world, "a", "ada")
    live = [key for name, key in KEYS.items() if name != first]
    assert of(ledger, second, live=live)


def test_alone_oneself_with_the_next_seed(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0))
    assert of(ledger, "ada", live=()) == [Duty(world.commit("a"), TIER, REPLICATION, 0, 0)]
    failed = ledger_of(*genesis(world), world.result("ada", "a", 8.0), replications=3)
    failed.add(world.result("ada", "a", 8.0, REPLICATION, 0))
    assert of(failed, "ada", live=())[0].index == 1


def test_alone_a_clear_win_waits_and_is_searched_from(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 5.0))
    assert of(ledger, "ada", live=()) == []
    assert of(ledger, "ada", live=(), now_ms=ALONE_WAIT * BUDGET_MS)
    assert any(of(ledger, name) for name in NAMES)  # with others there is no wait


def test_the_best_comes_first(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0), world.result("ada", "b", 7.5))
    late = of(ledger, "bob", now_ms=9 * BUDGET_MS)
    assert [duty.commit for duty in late][:2] == [world.commit("b"), world.commit("a")]


def test_few_are_replicated_at_once_and_none_is_kept_waiting_for_long(world: World) -> None:
    """Of four peers one runs the best at once; the second best is begun a budget later, whatever became of the best."""
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0), world.result("bob", "b", 7.5))
    at_once = [duty.commit for name in NAMES for duty in of(ledger, name)]
    assert at_once == [world.commit("b")]
    later = {duty.commit for name in NAMES for duty in of(ledger, name, now_ms=BUDGET_MS)}
    assert later == {world.commit("a"), world.commit("b")}
    first = order(world, "a", "ada")[0]
    assert world.commit("a") in [duty.commit for duty in of(ledger, first, now_ms=BUDGET_MS)]


def test_who_goes_on_running_what_waits_keeps_nobody_from_their_turn(world: World) -> None:
    """Turns pass from the latest run that counts: none beyond a gap, nor more of one author than it is heard with."""
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0), world.result("bob", "b", 7.5))
    ledger.add(world.result("cyd", "a", 8.0, REPLICATION, 5, at_ms=BUDGET_MS))
    later = {duty.commit for name in NAMES for duty in of(ledger, name, now_ms=BUDGET_MS)}
    assert later == {world.commit("a"), world.commit("b")}
    for index in range(MAX_RUNS_AN_AUTHOR + 1):
        ledger.add(world.result("dan", "aa", 9.0, REPLICATION, index, at_ms=1000 + index))
    assert ledger.latest_ms(world.commit("aa"), TIER) == 1000 + MAX_RUNS_AN_AUTHOR - 1


def test_what_nobody_has_run_passes_from_turn_to_turn_since_i_came(world: World) -> None:
    g = world.commit("genesis")
    ranked = order(world, "genesis")
    for rank, name in enumerate(ranked):
        came = 5 * BUDGET_MS
        due = of(ledger_of(), name, since_ms=came, now_ms=came + rank * BUDGET_MS)
        assert [(duty.commit, duty.rank) for duty in due] == [(g, rank)]
        assert rank == 0 or of(ledger_of(), name, since_ms=came, now_ms=came + rank * BUDGET_MS - 1) == []


def test_who_cannot_become_incumbent_is_left_to_be_rebased(world: World) -> None:
    accepted = [world.result(name, "a", 8.0, REPLICATION) for name in NAMES]
    ledger = ledger_of(*genesis(world), *accepted, world.result("ada", "b", 9.0))
    b = world.commit("b")
    assert b in ledger.promising(TIER)
    assert all(duty.commit != b for name in NAMES for duty in of(ledger, name, now_ms=9 * BUDGET_MS))


def test_two_who_disagree_call_a_third(world: World) -> None:
    against = world.result("bob", "a", 1e9, REPLICATION)
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0), against)
    third = order(world, "a", "ada", "bob")[0]
    assert third in ("cyd", "dan")
    assert of(ledger, third) == [Duty(world.commit("a"), TIER, REPLICATION, 0, 0)]


def test_a_quarrel_over_a_loser_calls_nobody(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 12.0), world.result("bob", "a", 1e9))
    assert all(of(ledger, name) == [] for name in NAMES)


def test_a_liar_i_know_gives_me_no_work(world: World) -> None:
    """eve broke her word to ada over b; ada leaves eve's next wonder to others."""
    eve = [world.result("eve", "b", 0.1), world.result("eve", "a", 0.1)]
    ledger = ledger_of(*genesis(world), *eve, world.result("ada", "b", 11.0, REPLICATION))
    commits = {duty.commit for duty in of(ledger, "ada", now_ms=9 * BUDGET_MS)}
    assert world.commit("a") not in commits
    assert world.commit("a") in {duty.commit for duty in of(ledger, "bob", now_ms=9 * BUDGET_MS)}


def test_the_incumbent_is_confirmed_until_it_is_known(world: World) -> None:
    runs = [world.result("ada", "a", 9.4), world.result("bob", "a", 9.2, REPLICATION)]
    ledger = ledger_of(*genesis(world), *runs)
    stood = (PACE - 1) // len(NAMES) * BUDGET_MS
    assert all(of(ledger, name, now_ms=stood - 1) == [] for name in NAMES)
    wanted = [duty for name in NAMES for duty in of(ledger, name, now_ms=stood)]
    assert [(duty.commit, duty.origin) for duty in wanted] == [(world.commit("a"), CONFIRMATION)]
    for name in NAMES:
        for index in range(2):
            ledger.add(world.result(name, "a", 9.3 + 0.1 * index, CONFIRMATION, index))
    late = [duty for name in NAMES for duty in of(ledger, name, now_ms=9 * BUDGET_MS)]
    assert all(duty.commit != world.commit("a") for duty in late)  # six count, more would not


def test_a_long_way_from_the_last_proof_calls_for_both_ends(world: World) -> None:
    runs = [world.result(name, "a", 4.0, REPLICATION) for name in NAMES]
    ledger = ledger_of(*genesis(world), *runs)
    a, g = world.commit("a"), world.commit("genesis")

    def confirming() -> set[str]:
        return {duty.commit for n in NAMES for duty in of(ledger, n) if duty.origin is CONFIRMATION}

    assert confirming() == {a}
    ledger.add(world.result("bob", "a", 4.0, CONFIRMATION))
    assert confirming() == {g}
    ledger.add(world.result("bob", "genesis", 10.0, CONFIRMATION))
    assert ledger.proven(TIER) == [a, g]
    assert confirming() == set()


def test_what_i_must_see_myself_comes_first(world: World) -> None:
    runs = [world.result(name, "a", 8.0, REPLICATION) for name in ("ada", "bob")]
    ledger = ledger_of(*genesis(world), *runs, world.result("ada", "aa", 6.5))
    for name in ("cyd", "dan"):
        late = of(ledger, name, now_ms=9 * BUDGET_MS)
        assert (late[0].commit == world.commit("a")) == audits(KEYS[name], world.commit("a"))


def test_what_i_believe_is_checked_when_it_has_stood_for_a_while(world: World) -> None:
    runs = [world.result(name, "a", 8.0, REPLICATION, at_ms=1000) for name in ("ada", "bob")]
    ledger = ledger_of(*genesis(world), *runs)
    auditors = [number for number in range(40) if audits(peer(str(number)).public_key, world.commit("a"))]
    assert auditors
    for number in auditors:
        me = peer(str(number)).public_key
        for waited, checks in ((AUDIT_HOLD * BUDGET_MS - 1, False), (AUDIT_HOLD * BUDGET_MS, True)):
            found = duties(
                ledger, me=me, tier=TIER, live=KEYS.values(), claims=(), now_ms=1000 + waited, since_ms=0,
                budget_ms=BUDGET_MS,
            )  # fmt: skip
            assert any((duty.commit, duty.rank) == (world.commit("a"), 0) for duty in found) == checks


def test_no_more_runs_than_count(world: World) -> None:
    runs = [world.result("ada", "a", 8.0, REPLICATION, index) for index in range(6)]
    ledger = ledger_of(*genesis(world), *runs, replications=9)
    assert of(ledger, "ada", live=()) == []
