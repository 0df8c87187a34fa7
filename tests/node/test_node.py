"""Whole nodes: what one finds becomes what the other starts from."""

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from agent.tunables import read_tunables, write_tunables
from gossip.memory import MemoryNetwork
from node.apply import UnavailableError
from node.journal import IN_MEMORY, Flight, Journal
from node.lineage import GitLineage, Step
from protocol.commits import blob_id
from protocol.records import Claim, Record, Result, open_record
from protocol.statements import MAX_SECONDS, Origin, Scalar, Status
from tests.gossip.members import Member, identity, virtual_ms
from tests.node.nodes import NUMBERS, Built, build, met, until
from tests.sim.fakes import FakeTrainer, MemoryLineage
from tests.waiting import until as soon
from trainer.job import Job, Outcome, Progress
from trainer.program import Program, Stop

GENESIS = NUMBERS.commits.genesis
WIN = {"x": 0.7}
OTHER = {"y": 0.2}


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork(seed=1)


def incumbent(one: Built) -> str:
    best = one.snapshot().incumbent
    return "" if best is None else best.commit


def origins(one: Built) -> set[str]:
    return set(one.snapshot().by_origin)


async def test_a_win_on_one_becomes_the_base_of_the_other(
    autojump_clock: MockClock, network: MemoryNetwork, tmp_path: Path
) -> None:
    with closing(GitLineage(tmp_path / "a", NUMBERS.commits)) as mine:
        finder = build(network, 1, WIN, lineage=mine)
        with closing(GitLineage(tmp_path / "b", NUMBERS.commits)) as theirs:
            async with trio.open_nursery() as nursery:
                await nursery.start(finder.node.run)
                other = build(network, 2, lineage=theirs, bootstrap=finder.snapshot().addresses)
                await nursery.start(other.node.run)
                await until(lambda: bool(other.script.bases - {GENESIS}), 3600, other)
                await until(lambda: incumbent(finder) == incumbent(other) != GENESIS, 3600, other)
                nursery.cancel_scope.cancel()
            found = incumbent(finder)
            assert other.script.contexts[-1].base == found
            assert theirs.asset(found) == mine.asset(found) is not None
    assert Origin.REPLICATION.value in origins(finder)


async def test_a_win_whose_base_moved_is_merged_and_run_again(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    finder, other = build(network, 1, WIN), build(network, 2, OTHER)
    async with met(finder, other):
        await until(lambda: Origin.REBASE.value in origins(finder), 3600, finder)
        await until(lambda: incumbent(finder) == incumbent(other), 3600, finder)
        await until(lambda: numbers(finder, incumbent(finder)) == {**WIN, **OTHER}, 3600, finder)
    assert "merged" in finder.tally.rebases + other.tally.rebases
    assert "conflict" not in finder.tally.rebases + other.tally.rebases


def numbers(one: Built, commit: str) -> dict[str, Scalar]:
    """What the asset at ``commit`` has for x and y."""
    tunables = read_tunables(one.node.asset(commit) or b"{}", NUMBERS.spec.asset)
    return {name: tunables[name].value for name in ("x", "y") if name in tunables}


async def test_a_win_that_conflicts_is_dropped_counted_and_said(
    autojump_clock: MockClock, network: MemoryNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    finder, other = build(network, 1, {"x": 0.7}), build(network, 2, {"x": 0.62})
    async with met(finder, other):
        await until(lambda: bool(other.tally.rebases), 3600, other)
        await until(lambda: incumbent(finder) == incumbent(other), 3600, finder)
    assert other.tally.rebases == ["conflict"]
    assert list(other.parts.journal.rebases().values()) == ["conflict"]
    assert "conflict" in caplog.text
    assert Origin.REBASE.value not in origins(other)


async def test_without_a_sandbox_a_peers_code_is_refused_and_its_records_kept(
    autojump_clock: MockClock, network: MemoryNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    finder, careful = build(network, 1, WIN), build(network, 2, OTHER, foreign=False)
    async with met(finder, careful):
        await until(lambda: incumbent(careful) != GENESIS and "no sandbox" in caplog.text, 3600, careful)
        await trio.sleep(20 * NUMBERS.spec.budget_seconds)
    ran = {result.commit for result in own_results(careful)}
    theirs = set(finder.node.records.chronicle.proposed)
    assert theirs
    assert not ran & theirs
    assert careful.node.records.ledger.runs(next(iter(theirs)))


def own_results(one: Built) -> list[Result]:
    records = one.node.records
    return [record.result for record in records.latest() if record.author == records.me and record.result]


class Stuck(FakeTrainer):
    """Gets as far as starting the n-th run."""

    def __init__(self, until_run: int) -> None:
        super().__init__(NUMBERS.spec.budget_seconds, 0.0)
        self._left = until_run
        self.stuck = trio.Event()
        self.seeds: list[int] = []

    async def run(self, job: Job, on_progress: object = None) -> Outcome:
        self.seeds.append(job.seed)
        self._left -= 1
        if self._left == 0:
            self.stuck.set()
            await trio.sleep_forever()
        return await super().run(job)


async def test_what_was_running_is_run_again_under_the_same_key(
    autojump_clock: MockClock, network: MemoryNetwork, tmp_path: Path
) -> None:
    trainer = Stuck(3)
    with closing(GitLineage(tmp_path / "lineage", NUMBERS.commits)) as lineage:
        journal = Journal(tmp_path / "journal.db")
        first = build(network, 1, WIN, journal=journal, trainer=trainer, lineage=lineage)
        async with trio.open_nursery() as nursery:
            await nursery.start(first.node.run)
            await trainer.stuck.wait()
            nursery.cancel_scope.cancel()  # what is in the journal is what kill -9 would have left
        (flight,) = journal.flights()
        told = set(first.node.ids())
        journal.close()
        with closing(Journal(tmp_path / "journal.db")) as reopened:
            fresh = Stuck(-1)
            again = build(
                MemoryNetwork(seed=2), 1, journal=reopened, trainer=fresh, lineage=lineage, max_experiments=1
            )
            assert set(again.node.ids()) == told
            async with trio.open_nursery() as nursery:
                await nursery.start(again.node.run)
                await again.node.finished.wait()
                nursery.cancel_scope.cancel()
            assert fresh.seeds == [trainer.seeds[-1]]
            assert reopened.flights() == []
            keys = [(r.commit, r.origin, r.index) for r in (open_result(wire) for _, wire in reopened.wires())]
            assert keys[-1] == (flight.commit, flight.origin, flight.index)
            assert len(keys) == len(set(keys)) == 3


class Frozen(FakeTrainer):
    """Runs genesis, and ends no other run; knows when each began."""

    def __init__(self) -> None:
        super().__init__(NUMBERS.spec.budget_seconds, 0.0)
        self.begun: list[float] = []

    async def run(self, job: Job, on_progress: object = None) -> Outcome:
        if blob_id(job.asset) != blob_id(NUMBERS.asset):
            self.begun.append(trio.current_time())
            await trio.sleep_forever()
        return await super().run(job)


async def test_each_lane_takes_up_what_was_running(
    autojump_clock: MockClock, network: MemoryNetwork, tmp_path: Path
) -> None:
    edits = [{"y": place / 100} for place in range(60, 66)]
    with closing(GitLineage(tmp_path / "lineage", NUMBERS.commits)) as lineage:
        journal, trainer = Journal(IN_MEMORY), Frozen()
        first = build(network, 1, *edits, journal=journal, trainer=trainer, lineage=lineage, lanes=3)
        async with trio.open_nursery() as nursery:
            await nursery.start(first.node.run)
            await until(lambda: len(trainer.begun) == 3, 3600, first)
            nursery.cancel_scope.cancel()
        running = {flight.commit for flight in journal.flights()}
        assert len(running) == 3
        fresh = Frozen()
        again = build(MemoryNetwork(seed=2), 1, journal=journal, trainer=fresh, lineage=lineage, lanes=3)
        async with trio.open_nursery() as nursery:
            await nursery.start(again.node.run)
            await until(lambda: len(fresh.begun) == 3, 3600, again)
            nursery.cancel_scope.cancel()
    assert len(set(fresh.begun)) == 1
    assert {flight.commit for flight in journal.flights()} == running


async def test_two_lanes_that_come_to_the_same_run_it_once(autojump_clock: MockClock, network: MemoryNetwork) -> None:
    """One edits, and the other carries a win over that has the same effect."""
    asset = write_tunables(NUMBERS.asset, NUMBERS.spec.asset, WIN)
    commit = NUMBERS.commits.candidate(GENESIS, blob_id(asset))
    lineage, journal = MemoryLineage(NUMBERS.commits), Journal(IN_MEMORY)
    await lineage.write([Step(commit, GENESIS, asset)])
    for origin in (Origin.AGENT, Origin.REBASE):
        journal.begin(Flight(commit, GENESIS, origin, 0))
    trainer = Side()
    one = build(network, 1, journal=journal, trainer=trainer, lineage=lineage, lanes=2, max_experiments=4)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await one.node.finished.wait()
        nursery.cancel_scope.cancel()
    assert not trainer.twice
    assert [result.origin for result in own_results(one) if result.commit == commit].count(Origin.AGENT) == 1
    assert not journal.flights()


def open_result(wire: bytes) -> Result:
    result = open_record(wire, NUMBERS.swarm_id).result
    assert result is not None
    return result


async def test_what_nothing_depends_on_is_told_at_the_swarms_pace(
    autojump_clock: MockClock, network: MemoryNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = build(network, 1, {"x": 0.1}, WIN)
    published: list[Result] = []
    mentioned: list[Result] = []

    async def publish(record: Record) -> None:
        if record.result is not None:
            published.append(record.result)

    async def mention(record: Record, budget_seconds: float) -> None:
        assert record.result is not None
        mentioned.append(record.result)

    monkeypatch.setattr(quiet.node.swarm, "publish", publish)
    monkeypatch.setattr(quiet.node.swarm, "mention", mention)
    async with trio.open_nursery() as nursery:
        await nursery.start(quiet.node.run)
        await until(lambda: incumbent(quiet) not in ("", GENESIS), 3600, quiet)
        nursery.cancel_scope.cancel()
    (win,) = [result for result in published if result.origin is Origin.AGENT]
    assert win.tunables["x"] == WIN["x"]
    assert Origin.BASELINE in {result.origin for result in published}
    (lost,) = mentioned
    assert lost.tunables["x"] == 0.1
    assert quiet.snapshot().by_origin["agent"] == 2


async def test_the_programs_stopping_criterion_ends_the_work(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    spec = replace(NUMBERS.spec, stop=Stop(experiments=3))
    program = Program(spec, NUMBERS.files)
    one = build(network, 1, WIN, OTHER, {"x": 0.6}, program=program)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await one.node.finished.wait()
        nursery.cancel_scope.cancel()
    seen = one.snapshot()
    assert seen.own_experiments == 3
    assert "3 experiments" in seen.stopped
    assert seen.current == ()


async def test_a_snapshot_says_what_the_node_does(autojump_clock: MockClock, network: MemoryNetwork) -> None:
    trainer = Stuck(4)
    one = build(network, 1, WIN, OTHER, trainer=trainer)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await trainer.stuck.wait()
        seen = one.snapshot()
        nursery.cancel_scope.cancel()
    (current,) = seen.current
    assert current.budget_seconds == NUMBERS.spec.budget_seconds
    assert seen.records == seen.experiments_total == seen.own_experiments == 3
    assert seen.by_status == {Status.SCORED.value: 3}
    assert seen.last[0].created_ms >= seen.last[-1].created_ms
    assert seen.last[-1].summary == "the program as its author wrote it"
    assert seen.incumbent is not None
    assert seen.global_best == seen.incumbent
    assert seen.peer_id == one.parts.identity.peer_id
    assert seen.swarm_id == NUMBERS.swarm_id.hex()


class Side:
    """Runs that are watched: how many at once, and whether any commit was run twice at once."""

    def __init__(self) -> None:
        self._trainer = FakeTrainer(NUMBERS.spec.budget_seconds, 0.0005)
        self.device = self._trainer.device
        self.now: list[bytes] = []
        self.most = 0
        self.twice = False

    async def run(self, job: Job, on_progress: object = None) -> Outcome:
        self.twice |= job.asset in self.now
        self.now.append(job.asset)
        self.most = max(self.most, len(self.now))
        outcome = await self._trainer.run(job)
        self.now.remove(job.asset)
        return outcome


async def test_lanes_work_side_by_side_and_never_on_the_same(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    trainer = Side()
    edits = [{"x": round(0.5 + step / 100, 2)} for step in range(1, 49)]  # some are dropped where the base moves
    one = build(network, 1, *edits, trainer=trainer, lanes=3, max_experiments=20)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await one.node.finished.wait()
        nursery.cancel_scope.cancel()
    seen = one.snapshot()
    assert trainer.most == 3
    assert not trainer.twice
    assert seen.own_experiments == 20
    keys = [(record.result.commit, record.result.origin, record.result.seed)
            for record in one.node.records.ledger.records() if record.result]  # fmt: skip
    assert len(keys) == len(set(keys))
    assert {Origin.BASELINE.value, Origin.AGENT.value, Origin.REPLICATION.value} <= set(seen.by_origin)


class Slowly(Side):
    """Takes three times as long for one asset."""

    def __init__(self, asset: bytes) -> None:
        super().__init__()
        self._slow = asset

    async def run(self, job: Job, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
        outcome = await super().run(job, on_progress)
        if job.asset == self._slow:
            self.now.append(job.asset)
            await trio.sleep(2 * NUMBERS.spec.budget_seconds)
            self.now.remove(job.asset)
        return outcome


async def test_no_lane_replicates_what_another_runs_for_the_first_time(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    """Two nodes had the same idea, and the one that was ready first told of it while the other still ran it."""
    budget = NUMBERS.spec.budget_seconds
    win = write_tunables(NUMBERS.asset, NUMBERS.spec.asset, WIN)
    trainer = Slowly(win)
    first, second = build(network, 1, WIN), build(network, 2, WIN, trainer=trainer, lanes=2)
    async with trio.open_nursery() as nursery:
        await nursery.start(first.node.run)
        await trio.sleep(2.4 * budget)
        await nursery.start(second.node.run)
        await soon(lambda: win in trainer.now, budget)
        assert second.node._loop._known(win, GENESIS)  # nor carries another's win over to the same
        await first.parts.transport.connect(second.snapshot().addresses[0])
        told = NUMBERS.commits.candidate(GENESIS, blob_id(win))
        await until(lambda: len(second.node.ledger.runs(told)) == 2, 20 * budget, second)
        nursery.cancel_scope.cancel()
    assert not trainer.twice
    assert {run.author for run in second.node.ledger.runs(told)} == {first.node.records.me, second.node.records.me}


async def test_a_win_that_can_t_be_had_for_a_moment_is_carried_over_later(
    autojump_clock: MockClock, network: MemoryNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder, other = build(network, 1, WIN), build(network, 2, OTHER)
    refused: list[str] = []

    def away(one: Built) -> None:
        obtain = one.node._assets.obtain

        async def first_not(commit: str) -> bytes:
            if not refused and one.node._loop._underway.busy[commit] and commit in one.node.records.chronicle.proposed:
                refused.append(commit)
                raise UnavailableError("its peer is away")
            return await obtain(commit)

        monkeypatch.setattr(one.node._assets, "obtain", first_not)

    async with trio.open_nursery() as nursery:
        for one in (finder, other):
            away(one)
            await nursery.start(one.node.run)
        await finder.parts.transport.connect(other.snapshot().addresses[0])
        await until(lambda: numbers(finder, incumbent(finder)) == {**WIN, **OTHER}, 3600, finder)
        nursery.cancel_scope.cancel()
    assert refused
    assert "conflict" not in finder.tally.rebases + other.tally.rebases


async def test_a_claim_of_days_keeps_nobody_from_running_genesis(
    autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    liar = Member(99, network.transport(identity(99).peer_id), swarm_id=NUMBERS.swarm_id)
    budget = NUMBERS.spec.budget_seconds
    async with trio.open_nursery() as nursery:
        await nursery.start(liar.swarm.run)
        await liar.swarm.claim(Claim(virtual_ms(), GENESIS, Origin.BASELINE, "simulated", {}, "", MAX_SECONDS))
        one = build(network, 1, bootstrap=[liar.address])
        await nursery.start(one.node.run)
        await until(lambda: one.snapshot().own_experiments > 0, 3 * budget, one)
        assert [claim.commit for _, claim in one.node.swarm.claims()] == [GENESIS], "the liar was not heard"
        nursery.cancel_scope.cancel()


async def test_a_paused_node_asks_for_no_ideas(autojump_clock: MockClock, network: MemoryNetwork) -> None:
    """They may cost money."""
    journal = Journal(IN_MEMORY)
    journal.set_meta("paused", b"1")
    one = build(network, 1, WIN, journal=journal)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await trio.sleep(3600)
        assert one.script.contexts == []
        one.node.pause(False)
        await until(lambda: incumbent(one) not in ("", GENESIS), 3600, one)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("by", ["option", "program"])
async def test_no_idea_is_asked_for_that_is_not_run(
    by: str, lanes: int, autojump_clock: MockClock, network: MemoryNetwork
) -> None:
    stop = replace(NUMBERS.spec.stop, experiments=6 if by == "program" else None)
    program = replace(NUMBERS, spec=replace(NUMBERS.spec, stop=stop))
    edits = [{"x": 0.1 * number} for number in range(1, 9)]
    one = build(network, 1, *edits, program=program, lanes=lanes, max_experiments=6 if by == "option" else None)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        await one.node.finished.wait()
        nursery.cancel_scope.cancel()
    assert one.snapshot().by_origin[Origin.AGENT.value] == len(one.script.contexts) > 0
    assert len(one.node.records.chronicle.own_ms) == 6
