"""What a whole node tries besides its proposer's edits, and what it tells others of what it learnt."""

from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from agent.proposer import Context, Edit
from gossip import swarm as swarm_module
from gossip.memory import MemoryNetwork
from protocol.statements import Origin
from tests.node.nodes import NOISE, NUMBERS, Built, Script, build, met, until
from tests.sim.fakes import FakeTrainer

SECONDS = NUMBERS.spec.budget_seconds
#: Within the noise of genesis' value, and in another line of the asset than WIN.
NEAR_MISS, WIN = {"y": 0.501}, {"x": 0.7}


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork(seed=1)


def of(one: Built, origin: Origin) -> Iterator[str]:
    """The candidates that a node came to by an arm."""
    return (commit for commit, how in one.node.records.chronicle.proposed.items() if how is origin)


async def test_a_near_miss_and_the_incumbent_are_put_together_and_run(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    finder, other = build(network, 1, WIN), build(network, 2, NEAR_MISS)
    async with met(finder, other):
        await until(lambda: any(of(finder, Origin.RECOMBINE)) or any(of(other, Origin.RECOMBINE)), 3600, finder)
    who = finder if any(of(finder, Origin.RECOMBINE)) else other
    (commit,) = of(who, Origin.RECOMBINE)
    asset = who.node.asset(commit)
    assert asset is not None
    assert b'"x": {"value": 0.7' in asset
    assert b'"y": {"value": 0.501' in asset
    assert who.snapshot().yields["recombine"]["tried"] == 1
    assert "merged" in who.tally.rebases


async def test_the_incumbent_of_another_tier_is_run_in_ones_own(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    far = build(network, 1, WIN, trainer=FakeTrainer(SECONDS, NOISE, "a"))
    near = build(network, 2, trainer=FakeTrainer(SECONDS, NOISE, "b"))
    async with met(far, near):
        await until(lambda: near.snapshot().yields["transplant"]["accepted"] == 1, 7200, near)
    (commit,) = of(near, Origin.TRANSPLANT)
    assert list(of(far, Origin.AGENT)) == [commit]
    best = near.snapshot().incumbent
    assert best is not None
    assert best.commit == commit


class Learner(Script):
    """Notes something with each of its edits."""

    async def propose(self, context: Context) -> Edit | None:
        context.note(f"what was learnt by edit {len(self.contexts)}", [context.base])
        return await super().propose(context)


async def test_what_one_has_learnt_is_told_at_once_and_shown_to_the_others_proposer(
    autojump_clock: MockClock, network: MemoryNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By gossip: nothing is synced but when they meet."""
    monkeypatch.setattr(swarm_module, "SYNC_SECONDS", 1e6)
    monkeypatch.setattr(swarm_module, "PARENT_SECONDS", 1e6)
    learner = Learner(WIN, {"y": 0.3}, {"y": 0.2})
    finder, other = build(network, 1, proposer=learner), build(network, 2, {"z": 0.05}, {"z": 0.04}, {"z": 0.03})
    async with met(finder, other):
        await until(lambda: len(learner.contexts) >= 3, 3600, finder)
        told = trio.current_time()
        await until(lambda: any(_shown(other, "edit 2")), 3600, other)
        assert trio.current_time() - told < 30 * SECONDS
    assert other.script.contexts[-1].program_text.encode() == NUMBERS.files["program.md"]  # its limits too
    assert set(_shown(other, "edit 2")) == {finder.parts.transport.peer_id[-8:]}


def _shown(one: Built, text: str) -> Iterator[str]:
    """The authors of what was noted so, as the latest edit's proposer was shown it."""
    return (insight.author for insight in one.script.contexts[-1].insights if text in insight.text)
