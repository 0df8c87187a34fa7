"""What a proposer is shown: the way to the base and the best stay in sight, and nobody crowds out the others."""

import pytest

from agent.evidence import comparable
from gossip.memory import MemoryNetwork
from node import brief as brief_module
from node.brief import Brief
from node.journal import IN_MEMORY, Journal
from node.records import Records
from protocol.records import Record, seal
from protocol.statements import Note, Origin
from tests.node.nodes import build
from tests.protocol.world import SWARM, TIER, World, peer, rules
from tests.sim.fakes import FakeTrainer


@pytest.fixture
def world() -> World:
    return World()


def held(*records: Record) -> Records:
    mine = Records(Journal(IN_MEMORY), rules(), peer("me"), SWARM)
    for record in records:
        mine.take(record)
    return mine


def brief(*records: Record) -> Brief:
    return Brief(build(MemoryNetwork(seed=1), 1, trainer=FakeTrainer(1.0, 0.0, TIER)).parts, held(*records))


def note(author: str, text: str, *cites: Record, sequence: int = 0) -> Record:
    return seal(peer(author), SWARM, Note(0, sequence, text, tuple(record.id for record in cites)))


def started(world: World) -> list[Record]:
    return [
        world.result("me", "genesis", 100.0, Origin.BASELINE),
        world.result("me", "genesis", 100.0, Origin.BASELINE, index=1),
    ]


def accepted(world: World, name: str, metric: float, of: str = "genesis") -> list[Record]:
    world.child(name, of)
    return [world.result("other", name, metric), world.result("me", name, metric, Origin.REPLICATION)]


async def test_the_way_to_the_base_and_the_best_stay_in_sight(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much came after them."""
    monkeypatch.setattr(brief_module, "MAX_TRIALS", 8)
    monkeypatch.setattr(brief_module, "MAX_BEST", 1)
    records = [*started(world), *accepted(world, "step", 60.0), *accepted(world, "aside", 50.0)]
    records += [world.result("other", world.child(f"later{place}"), 120.0) for place in range(20)]
    shown = brief(*records).trials([world.commit("genesis"), world.commit("step")])
    assert [trial.commit for trial in shown] == [
        world.commit(name) for name in ["genesis", "step", "aside", *(f"later{place}" for place in range(15, 20))]
    ]


async def test_what_only_authors_of_broken_promises_say_is_not_shown(world: World) -> None:
    """Its failures neither; what another has measured is."""
    for name in ("lie", "more", "broken", "fair"):
        world.child(name)
    records = [
        *started(world), *accepted(world, "step", 60.0),
        world.result("liar", "lie", 10.0), world.result("me", "lie", 110.0, Origin.REPLICATION),
        world.result("liar", "more", 5.0), world.result("liar", "broken", None),
        world.result("liar", "fair", 90.0), world.result("other", "fair", 90.0, Origin.REPLICATION),
    ]  # fmt: skip
    line = [world.commit("genesis"), world.commit("step")]
    shown = {trial.commit: trial.value for trial in brief(*records).trials(line)}
    assert world.commit("more") not in shown
    assert world.commit("broken") not in shown
    assert shown[world.commit("fair")] == 90.0


async def test_notes_are_ranked_by_what_they_cite_not_by_when_they_came(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brief_module, "MAX_INSIGHTS", 3)
    step = accepted(world, "step", 60.0)
    small = accepted(world, "small", 97.0)
    chatter = [note("other", f"nothing new, for the {place}th time today", sequence=place) for place in range(9)]
    records = [*started(world), *step, *small, note("ada", "wide is good", step[0]), note("bob", "deep", small[0])]
    insights = brief(*records, *chatter).insights()
    assert [insight.text for insight in insights][:2] == ["wide is good", "deep"]
    assert insights[0].commits == [world.commit("step")]
    assert len(insights) == 3


async def test_no_author_crowds_out_the_others_and_what_is_the_same_is_said_once(world: World) -> None:
    step = accepted(world, "step", 60.0)
    many = [note("loud", f"{place} " * (place + 1), step[0], sequence=place) for place in range(30)]
    again = [note("echo", "wide is good", sequence=0), note("ada", "wide is good", step[0])]
    insights = brief(*started(world), *step, *many, *again).insights()
    assert sum(insight.author == peer("loud").peer_id[-8:] for insight in insights) == brief_module.NOTES_AN_AUTHOR
    assert [insight.text for insight in insights].count("wide is good") == 1


async def test_notes_of_authors_of_broken_promises_are_not_shown(world: World) -> None:
    world.child("lie")
    lies = [world.result("liar", "lie", 10.0), world.result("me", "lie", 110.0, Origin.REPLICATION)]
    told = [note("liar", "depth is all"), note("ada", "width is all")]
    assert [one.text for one in brief(*started(world), *lies, *told).insights()] == ["width is all"]


async def test_what_other_tiers_ran_is_known_and_can_be_compared(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brief_module, "MAX_ELSEWHERE", 3)
    gpu = [world.result("far", "genesis", 40.0, Origin.BASELINE, tier="gpu")]
    gpu += [world.result("far", world.child(f"far{place}"), 30.0 + place, tier="gpu") for place in range(6)]
    own = [*started(world), *accepted(world, "step", 60.0)]
    both = world.result("far", "step", 20.0, Origin.TRANSPLANT, tier="gpu")
    shown = brief(*gpu, *own, both).trials([world.commit("genesis"), world.commit("step")])
    assert {(trial.commit, trial.tier, trial.value) for trial in shown} == {
        (world.commit("genesis"), TIER, 100.0), (world.commit("genesis"), "gpu", 40.0),
        (world.commit("step"), TIER, 60.0), (world.commit("step"), "gpu", 20.0),
        (world.commit("far4"), "gpu", 34.0), (world.commit("far5"), "gpu", 35.0),
    }  # fmt: skip
    # 60 here against 20 there, 100 against 40: the median of the shifts
    assert {trial.value for trial in comparable(shown, TIER)} == {100.0, 60.0, 34.0 + 50.0, 35.0 + 50.0}


async def test_what_was_noted_is_not_noted_again(world: World) -> None:
    """By whomever, if in a few other words; and what is new cites the first run of each commit."""
    step = accepted(world, "step", 60.0)
    known = brief(*started(world), *step, note("ada", "wide layers are good for this data set"))
    known.note("Wide layers are good for this DATA set", [])
    known.note("deep is better", [world.commit("step"), "0" * 40])
    known.note("deep is better", [])
    known.note("  \n ", [])
    told = [record.statement for record in known.to_publish()]
    assert [(one.text, one.cites) for one in told if isinstance(one, Note)] == [("deep is better", (step[0].id,))]
    assert len(told) == 1
