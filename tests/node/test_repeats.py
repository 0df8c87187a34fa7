"""Two nodes do not do the same, and an idea whose base has moved is carried over or dropped."""

import json
import logging

import pytest
import trio
from trio.testing import MockClock

from agent.proposer import ALREADY_RUN, BEING_RUN, Context, Edit
from agent.tunables import read_tunables, write_tunables
from gossip.memory import MemoryNetwork
from node.repeats import in_turn
from node.think import HEADROOM, Idea
from protocol.statements import Claim, Origin, Result, Scalar
from tests.node.nodes import EPOCH_MS, NUMBERS, Built, Script, build, met, until
from tests.sim.fakes import FakeTrainer
from trainer.job import Job, Outcome

GENESIS = NUMBERS.commits.genesis
WIN = {"x": 0.7}


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork(seed=1)


def edits(one: Built) -> list[Result]:
    """What came of the proposer, oldest first."""
    results = [record.result for record in one.node.records.ledger.records() if record.result is not None]
    return sorted((one for one in results if one.origin is Origin.AGENT), key=lambda one: one.created_ms)


class Pondering(Script):
    """Takes so long that it thinks of the next edit while one runs."""

    async def propose(self, context: Context) -> Edit | None:
        await trio.sleep(NUMBERS.spec.budget_seconds / HEADROOM)
        return await super().propose(context)


async def test_an_idea_is_carried_over_where_the_incumbent_moves(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    script = Pondering(WIN, {"y": 0.2})
    one = build(network, 1, proposer=script)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await until(lambda: len(edits(one)) == 2, 3600, one)
        nursery.cancel_scope.cancel()
    first, second = edits(one)
    assert first.parent == GENESIS
    assert [context.base for context in script.contexts[:2]] == [GENESIS, GENESIS]
    assert second.parent == first.commit
    asset = read_tunables(one.node.asset(second.commit) or b"", NUMBERS.spec.asset)
    assert (asset["x"].value, asset["y"].value) == (0.7, 0.2)
    assert one.tally.ideas == ["run", "carried over"]
    assert script.contexts[-1].trials[0].summary == "the program as its author wrote it"


class Asked(Script):
    """Knows when it was asked, in milliseconds."""

    def __init__(self, *edits: dict[str, Scalar]) -> None:
        super().__init__(*edits)
        self.at_ms: list[float] = []

    async def propose(self, context: Context) -> Edit | None:
        self.at_ms.append(EPOCH_MS + trio.current_time() * 1000)
        return await super().propose(context)


@pytest.mark.parametrize("lanes", [1, 2])
async def test_a_quick_proposer_is_asked_when_a_run_has_ended(
    lanes: int, autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    """It knows then what came of it."""
    script = Asked(*({"y": place / 100} for place in range(60, 90)))  # none is a win
    one = build(network, 1, lanes=lanes, max_experiments=16, proposer=script)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await one.node.finished.wait()
        nursery.cancel_scope.cancel()
    ends = sorted(record.statement.created_ms for record in one.node.records.ledger.records())
    asked = script.at_ms[1:]  # at first nobody knows how long it takes
    assert len(asked) > 8
    assert all(min(abs(at - end) for end in ends) < 100 for at in asked)


async def test_an_idea_that_conflicts_with_the_new_incumbent_is_dropped_and_said(
    autojump_clock: MockClock, network: MemoryNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one = build(network, 1, proposer=Pondering(WIN, {"x": 0.1}, {"y": 0.2}))
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await until(lambda: len(edits(one)) == 2, 3600, one)
        nursery.cancel_scope.cancel()
    assert one.tally.ideas == ["run", "conflict", "run"]
    assert [dict(result.tunables)["x"] for result in edits(one)] == [0.7, 0.7]
    assert "is dropped (conflict): set {'x': 0.1}" in caplog.text


class Late(Script):
    """Thinks until the other has begun, and is told of it the next time."""

    async def propose(self, context: Context) -> Edit | None:
        await trio.sleep(4 * NUMBERS.spec.budget_seconds)
        self.running = context.running
        return await super().propose(context)


class Endless(FakeTrainer):
    """Never ends a run of WIN."""

    def __init__(self) -> None:
        super().__init__(NUMBERS.spec.budget_seconds, 0.0)
        self.stuck = trio.Event()

    async def run(self, job: Job, on_progress: object = None) -> Outcome:
        if read_tunables(job.asset, NUMBERS.spec.asset)["x"].value == WIN["x"]:
            self.stuck.set()
            await trio.sleep_forever()
        return await super().run(job)


async def test_what_a_peer_is_running_is_not_run_beside_it(autojump_clock: MockClock, network: MemoryNetwork) -> None:
    stuck = Endless()
    first = build(network, 1, WIN, trainer=stuck)
    late = Late(WIN, {"y": 0.2})
    other = build(network, 2, proposer=late)
    async with met(first, other):
        await until(lambda: bool(edits(other)), 3600, other)
    assert stuck.stuck.is_set()
    assert other.tally.ideas[:2] == ["duplicate", "run"]
    assert other.tally.duplicates == [BEING_RUN]
    assert dict(edits(other)[0].tunables)["x"] != WIN["x"]
    assert (late.running[0].tunables["x"], late.running[0].summary) == (WIN["x"], f"set {WIN}")


async def test_what_was_proposed_is_known_to_the_next_thought(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    """It waits for a lane, runs, or has been run."""
    script = Pondering(*({"y": place / 100} for place in range(60, 70)))  # none is a win
    one = build(network, 1, lanes=2, max_experiments=10, proposer=script)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await one.node.finished.wait()
        nursery.cancel_scope.cancel()
    waited = 0
    for number, context in enumerate(script.contexts):
        proposed = {f"set {{'y': {place / 100}}}" for place in range(60, 60 + number)}
        told, tried = {trial.summary for trial in context.trials}, [attempt.summary for attempt in context.running]
        assert proposed <= told | set(tried)
        waited = max(waited, len(proposed & set(tried)))
    assert waited > 2  # more than run at a time


def test_a_peer_that_claims_much_does_not_hide_the_others() -> None:
    def claim(summary: str) -> Claim:
        return Claim(EPOCH_MS, GENESIS, Origin.AGENT, "cpu", {}, summary, 60.0)

    claims = [(b"loud", claim(f"noise {number}")) for number in range(16)]
    said = in_turn([*claims, (b"quiet", claim("an idea")), (b"other", claim("another"))])
    assert [attempt.summary for attempt in said][:4] == ["noise 0", "an idea", "another", "noise 1"]


class Asker:
    """Proposes WIN, and then asks what some edits repeat."""

    name = "asker"

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    async def propose(self, context: Context) -> Edit | None:
        win = write_tunables(context.asset, context.asset_name, WIN)
        if context.base == GENESIS:
            return None if context.taken(win) else Edit(win, "win")
        laid_out = json.dumps(json.loads(win), indent=8).encode()
        self.said = {
            "itself": await context.repeats(win),
            "laid out otherwise": await context.repeats(laid_out),
            "new": await context.repeats(write_tunables(win, context.asset_name, {"y": 0.2})),
        }
        return None


async def test_what_was_run_is_known_also_in_another_layout(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    asker = Asker()
    one = build(network, 1, proposer=asker)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await until(lambda: bool(asker.said), 3600, one)
        nursery.cancel_scope.cancel()
    assert asker.said == {"itself": ALREADY_RUN, "laid out otherwise": ALREADY_RUN, "new": ""}
    assert one.tally.duplicates[:2] == [ALREADY_RUN, ALREADY_RUN]


async def test_repeated_edits_are_told_from_new_ones_in_a_ledger(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    """Two nodes that had not met do the same; together they know."""
    first, second = build(network, 1, WIN), build(network, 2, WIN)
    async with trio.open_nursery() as nursery:
        for one in (first, second):
            await nursery.start(one.node.run)
            await until(lambda one=one: bool(edits(one)), 3600, one)  # type: ignore[misc]
        assert (first.snapshot().edits, first.snapshot().duplicates) == (1, 0)
        await first.parts.transport.connect(second.snapshot().addresses[0])
        await until(lambda: first.snapshot().edits == 2, 3600, first)
        nursery.cancel_scope.cancel()
    assert first.snapshot().duplicates == 1


async def test_an_idea_for_a_base_that_nobody_has_is_dropped(
    autojump_clock: MockClock, network: MemoryNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    one = build(network, 1)
    await one.node._loop._try(Idea("f" * 40, Edit(b"{}", "empty")), "f" * 40)
    assert one.tally.ideas == ["unavailable"]
    assert "no base to edit: ffffffffffff" in caplog.text
    assert edits(one) == []


async def test_an_idea_is_not_lost_with_a_base_that_nobody_has(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    """As with a peer's lead whose asset is withheld: it is run on what it was thought out for."""
    one = build(network, 1)
    asset = write_tunables(NUMBERS.asset, NUMBERS.spec.asset, WIN)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await one.node._loop._try(Idea(GENESIS, Edit(asset, "a win")), "f" * 40)
        nursery.cancel_scope.cancel()
    assert one.tally.ideas == ["run"]
    assert [(edit.parent, edit.summary) for edit in edits(one)] == [(GENESIS, "a win")]
