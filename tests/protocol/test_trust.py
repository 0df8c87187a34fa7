"""What one node believes, whatever the ledger says: liars, sock puppets, and one's own wins."""

import pytest

from protocol.ledger import Ledger
from protocol.records import Record
from protocol.statements import Origin
from protocol.trust import AUDIT_ONE_IN, LEAD_BUDGETS, audits, broken_promises, headline, unchecked, usable_bases
from tests.protocol.world import TIER, World, ledger_of, peer

BASELINE, REPLICATION, CONFIRMATION = Origin.BASELINE, Origin.REPLICATION, Origin.CONFIRMATION
ADA, EVE, EVA = (peer(name).public_key for name in ("ada", "eve", "eva"))


@pytest.fixture
def world() -> World:
    world = World()
    for name in "abcdefgh":
        world.child(name)
    return world


def genesis(world: World) -> list[Record]:
    return [world.result(p, "genesis", 10.0, BASELINE) for p in ("ada", "bob")]


def shared(world: World, name: str, loss: float, *authors: str) -> list[Record]:
    return [world.result(author, name, loss, REPLICATION) for author in authors]


def best(ledger: Ledger, me: bytes = ADA) -> str | None:
    bases = usable_bases(ledger, me=me, tier=TIER)
    return bases[0].commit if bases else None


def shown(ledger: Ledger, me: bytes = ADA) -> str:
    standing = headline(ledger, me=me)
    assert standing is not None
    return standing.commit


def test_nothing_is_believed_before_anything_was_run(world: World) -> None:
    ledger = ledger_of(world.result("bob", "a", 1.0))
    assert usable_bases(ledger, me=ADA, tier=TIER) == []
    assert headline(ledger, me=ADA) is None


def test_what_two_authors_share_is_believed(world: World) -> None:
    ledger = ledger_of(*genesis(world), *shared(world, "a", 8.0, "bob", "cyd"))
    assert best(ledger) == shown(ledger) == world.commit("a")
    assert not usable_bases(ledger, me=ADA, tier=TIER)[0].own


def test_what_one_author_ran_twice_is_not(world: World) -> None:
    runs = [world.result("eve", "a", 0.1), world.result("eve", "a", 0.1, REPLICATION)]
    ledger = ledger_of(*genesis(world), *runs)
    incumbent = ledger.incumbent(TIER)
    assert incumbent is not None
    assert incumbent.commit == world.commit("a")  # the ledger counts everybody alike
    assert best(ledger) == shown(ledger) == world.commit("genesis")
    assert best(ledger, EVE) == world.commit("a")
    assert unchecked(ledger, me=ADA, tier=TIER) == (world.commit("a"), False)  # so I look for myself


def test_what_i_ran_is_believed_where_i_agree(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("eve", "a", 8.0), *shared(world, "a", 8.4, "ada"))
    assert best(ledger) == world.commit("a")
    assert usable_bases(ledger, me=ADA, tier=TIER)[0].own


def test_sock_puppets_are_caught_by_who_runs_it_again(world: World) -> None:
    lie = shared(world, "a", 0.1, "eve", "eva")
    ledger = ledger_of(*genesis(world), *lie)
    assert best(ledger) == world.commit("a")  # two authors agree, and nobody has looked yet
    ledger.add(world.result("ada", "a", 11.0, REPLICATION))
    assert best(ledger) == shown(ledger) == world.commit("genesis")
    assert broken_promises(ledger, ADA) == {EVE, EVA}
    for record in shared(world, "b", 0.1, "eve", "eva"):
        ledger.add(record)
    assert best(ledger) == shown(ledger) == world.commit("genesis")  # the next lie is not even looked at
    assert unchecked(ledger, me=ADA, tier=TIER) is None


def test_one_who_contradicts_sends_everybody_to_look(world: World) -> None:
    """bob caught the puppets; cyd, who has run nothing, believes neither side and runs it herself."""
    cyd = peer("cyd").public_key
    ledger = ledger_of(
        *genesis(world), *shared(world, "a", 0.1, "eve", "eva"), *shared(world, "a", 11.0, "bob")
    )
    incumbent = ledger.incumbent(TIER)
    assert incumbent is not None
    assert incumbent.commit == world.commit("a")  # outvoted
    assert best(ledger, cyd) == shown(ledger, cyd) == world.commit("genesis")
    assert unchecked(ledger, me=cyd, tier=TIER) == (world.commit("a"), False)


def test_a_known_liars_objection_is_not_heeded(world: World) -> None:
    ledger = ledger_of(
        *genesis(world), *shared(world, "a", 8.0, "ada", "bob"), *shared(world, "a", 1e9, "eve")
    )
    for record in [*shared(world, "b", 7.0, "bob", "cyd"), *shared(world, "b", 1e9, "eve")]:
        ledger.add(record)
    assert broken_promises(ledger, ADA) == {EVE}
    assert best(ledger) == world.commit("b")


def test_chance_breaks_no_promise(world: World) -> None:
    runs = [record for name in "abcdefgh" for record in shared(world, name, 8.0, "ada")]
    runs += [record for name in "abcdefgh" for record in shared(world, name, 10.5, "bob")]
    assert broken_promises(ledger_of(*genesis(world), *runs), ADA) == frozenset()


def test_my_own_failure_refutes_nobody(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", None), world.result("eve", "a", 8.0))
    assert broken_promises(ledger, ADA) == frozenset()


def test_who_reports_crashes_of_what_runs_is_caught(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 8.0), world.result("eve", "a", None))
    assert broken_promises(ledger, ADA) == {EVE}


def test_a_clear_win_of_mine_is_searched_from_at_once(world: World) -> None:
    clear = ledger_of(*genesis(world), world.result("ada", "a", 6.5))
    assert best(clear) == world.commit("a")
    assert shown(clear) == world.commit("genesis")  # to search from, not to show
    doubtful = ledger_of(*genesis(world), world.result("ada", "a", 7.5))
    assert best(doubtful) == world.commit("genesis")


def test_a_lead_is_searched_from_and_not_shown(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("bob", "a", 8.0))
    lead = usable_bases(ledger, me=ADA, tier=TIER)[0]
    assert (lead.commit, lead.value, lead.own) == (world.commit("a"), 8.0, False)
    assert shown(ledger) == world.commit("genesis")
    assert best(ledger, peer("bob").public_key) == world.commit("genesis")  # its own bar is higher
    assert best(ledger_of(*genesis(world), world.result("bob", "a", 9.5))) == world.commit("genesis")


def test_a_lead_must_beat_the_best_that_i_believe(world: World) -> None:
    believed = [*genesis(world), *shared(world, "a", 8.0, "bob", "cyd")]
    assert best(ledger_of(*believed, world.result("bob", "b", 7.5))) == world.commit("a")
    assert best(ledger_of(*believed, world.result("bob", "b", 6.5))) == world.commit("b")


def test_a_lie_is_a_lead_until_somebody_has_looked_and_its_author_gives_no_other(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("eve", "a", 0.1), world.result("eve", "b", 0.2))
    assert best(ledger) == world.commit("a")
    ledger.add(world.result("bob", "a", 11.0, REPLICATION))
    assert best(ledger) == world.commit("genesis")
    ledger.add(world.result("cyd", "c", 8.0))
    assert best(ledger) == world.commit("c")


def test_who_is_contradicted_by_a_liar_gives_leads_again_when_a_third_has_decided(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("bob", "a", 8.0), world.result("bob", "b", 7.5))
    ledger.add(world.result("eve", "a", 1e9, REPLICATION))
    assert best(ledger) == world.commit("genesis")
    ledger.add(world.result("cyd", "a", 8.1, REPLICATION))
    assert best(ledger) == world.commit("b")


def test_who_agrees_with_others_has_not_kept_a_word_of_its_own(world: World) -> None:
    """Else reputation could be bought by copying figures."""
    copies = [record for name in "cdefgh" for author in ("bob", "eve") for record in shared(world, name, 9.9, author)]
    many = [world.child(f"copied {number}") for number in range(20)]
    copies += [record for name in many for record in [world.result("bob", name, 9.9), *shared(world, name, 9.9, "eve")]]
    lie = [world.result("eve", "a", 0.1), world.result("cyd", "a", 11.0, REPLICATION), world.result("eve", "b", 0.2)]
    assert best(ledger_of(*genesis(world), *copies, *lie)) not in (world.commit("a"), world.commit("b"))


def test_quarrels_that_nobody_decides_cost_no_honest_author_its_leads(world: World) -> None:
    """bob's loser and his win that a better one has overtaken: eve says that neither is so."""
    told = [world.result("bob", "a", 12.0), world.result("bob", "b", 9.0)]
    overtaken = [*told, *shared(world, "c", 8.0, "cyd", "dan"), world.result("bob", "d", 6.0)]
    ledger = ledger_of(*genesis(world), *overtaken)
    assert best(ledger) == world.commit("d")
    for name in "ab":
        ledger.add(world.result("eve", name, 1e9, REPLICATION))
    assert best(ledger) == world.commit("d")


def test_lines_that_a_peer_says_it_removed_make_no_lead(world: World) -> None:
    much = world.result("eve", "a", 10.0, lines=-100_000)
    assert best(ledger_of(*genesis(world), much, simplicity=0.0005)) == world.commit("genesis")
    dear = world.result("eve", "a", 8.0, lines=100_000)
    assert best(ledger_of(*genesis(world), dear, simplicity=0.0005)) == world.commit("genesis")


def test_a_lead_waits_for_replications_alone_and_not_for_ever(world: World) -> None:
    lead = world.result("bob", "a", 8.0, at_ms=1000)
    ledger = ledger_of(*genesis(world), lead)
    last_ms = 1000 + LEAD_BUDGETS * 50
    for now_ms, base in ((last_ms, "a"), (last_ms + 1, "genesis")):
        assert usable_bases(ledger, me=ADA, tier=TIER, now_ms=now_ms, budget_ms=50)[0].commit == world.commit(base)
    ledger.add(world.result("bob", "a", 8.0, REPLICATION, 5, at_ms=5000))  # beyond a gap: it does not count
    late = usable_bases(ledger, me=ADA, tier=TIER, now_ms=last_ms + 1, budget_ms=50)
    assert late[0].commit == world.commit("genesis")
    reviewed = ledger_of(*genesis(world), lead, founder=peer("bob").public_key, review=True)
    assert best(reviewed) == world.commit("genesis")


def test_who_misled_me_gives_no_leads(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("eve", "a", None), world.result("eve", "b", 5.0))
    assert best(ledger) == world.commit("b")
    ledger.add(world.result("ada", "a", 10.0))
    assert broken_promises(ledger, ADA) == {EVE}
    assert best(ledger) == world.commit("genesis")


def test_a_clear_win_survives_one_liar_and_not_two_peers(world: World) -> None:
    ledger = ledger_of(*genesis(world), world.result("ada", "a", 6.0), *shared(world, "a", 1e9, "eve"))
    assert best(ledger) == world.commit("a")
    for record in shared(world, "a", 10.4, "bob", "cyd", "dan"):
        ledger.add(record)
    assert best(ledger) == world.commit("genesis")


def test_who_inflates_genesis_does_not_make_me_search_from_worse(world: World) -> None:
    """The lie: genesis at 10^9, so that every edit looks like a win over it."""
    ledger = ledger_of(
        world.result("ada", "genesis", 10.0, BASELINE), world.result("eve", "genesis", 1e9, BASELINE),
        *shared(world, "a", 12.0, "eve", "eva"), world.result("ada", "b", 11.0),
    )  # fmt: skip
    assert usable_bases(ledger, me=ADA, tier=TIER)[-1].value <= 12.0
    ledger.add(world.result("ada", "a", 12.0, REPLICATION))
    assert best(ledger) == world.commit("genesis")


@pytest.mark.parametrize("author", ["ada", "cyd"])
def test_a_veto_ends_wins_that_are_not_accepted_yet(world: World, author: str) -> None:
    ledger = ledger_of(*genesis(world), world.result(author, "a", 6.5), founder=peer("bob").public_key)
    assert best(ledger) == world.commit("a")
    ledger.add(world.verdict("bob", "a", approve=False))
    assert best(ledger) == world.commit("genesis")


def test_one_in_four_is_audited(world: World) -> None:
    commits = [f"{number:040x}" for number in range(2000)]
    assert sum(audits(ADA, commit) for commit in commits) == pytest.approx(2000 / AUDIT_ONE_IN, rel=0.1)
    assert [audits(ADA, commit) for commit in commits] != [audits(EVE, commit) for commit in commits]
    ledger = ledger_of(*genesis(world), *shared(world, "a", 8.0, "bob", "cyd"))
    a = world.commit("a")
    checking = [
        name
        for name in map(str, range(40))
        if unchecked(ledger, me=peer(name).public_key, tier=TIER) == (a, True)
    ]
    assert len(checking) == sum(audits(peer(name).public_key, a) for name in map(str, range(40))) > 0
