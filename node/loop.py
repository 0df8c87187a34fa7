"""The loop of one node: choose, claim, apply, run, record, publish, and carry wins over to a base that moved.

An experiment is in the journal before it starts and leaves it together with its result, so that a death at
any instant repeats at most the running experiment.
"""

import logging
import random
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Protocol

import trio

from agent.proposer import Attempt, Context
from node.apply import Assets, UnavailableError
from node.bars import Bars
from node.brief import Brief
from node.choose import Action, Choice, View, choose, common_base, reason_to_stop, search_base
from node.holdout import Alarm
from node.idle import Idle
from node.journal import Flight
from node.kept_idle import KEPT
from node.lineage import Step
from node.merge import merge
from node.outcome import clip, result_of
from node.parts import Options, Parts
from node.promise import bar
from node.records import Records
from node.repeats import Repeats, in_turn
from node.snapshot import Current, level, summary_of
from node.think import Idea, Thinker
from node.underway import Underway
from protocol.assignment import Duty
from protocol.commits import blob_id
from protocol.diffs import MAX_ASSET_BYTES
from protocol.records import Claim, Record, Result, run_seed
from protocol.statements import FIRST_RUNS, MAX_NAME_BYTES, Origin, Scalar
from trainer.job import Job, Outcome, Progress

log = logging.getLogger(__name__)

#: With nothing to do a node looks again after this long: claims run out and turns pass without a record.
IDLE_SECONDS = 5.0
#: An asset that nobody could give is asked for again after this long: peers come and go.
RETRY_MS = 60_000
#: The swarm must hear of these at once whatever its size; of other edits it hears at a bounded rate.
TOLD_AT_ONCE = frozenset({Origin.BASELINE, Origin.REPLICATION, Origin.CONFIRMATION})


#: The public keys of peers of this tier heard lately.
Live = Callable[[], Collection[bytes]]


class Swarm(Protocol):
    """What the loop says to the swarm, and hears from it: ``gossip.swarm.Swarm``."""

    async def publish(self, record: Record) -> None: ...
    async def mention(self, record: Record, budget_seconds: float) -> None: ...
    async def claim(self, claim: Claim) -> None: ...
    def claims(self) -> list[tuple[bytes, Claim]]: ...


class Loop:
    """One experiment at a time in each lane, until the program's stopping criterion holds; none while ``paused``."""

    def __init__(
        self, parts: Parts, options: Options, records: Records, assets: Assets, swarm: Swarm, live: Live
    ) -> None:
        self._parts = parts
        self._options = options
        self._records = records
        self._assets = assets
        self._swarm = swarm
        self._live = live
        self._spec = parts.program.spec
        self._tier = parts.trainer.device.tier
        self._bars = Bars(records, foreign=options.foreign)
        self._brief = Brief(parts, records)
        self._repeats = Repeats(parts, records, assets, self._now_run)
        self._thinker = Thinker(
            parts.proposer, self._context, records.changed, parts.meters, options.lanes, self._free_in,
            parts.program.spec.budget_seconds,
        )  # fmt: skip
        self._rebased = parts.journal.rebases()
        self._rng = random.Random(run_seed(records.ledger.rules.genesis, records.me, Origin.AGENT, options.seed))
        self.idle = Idle(parts.meters, options.lanes, parts.journal.meta(KEPT))
        self.paused = bool(parts.journal.meta("paused"))
        self._since_ms = parts.clock_ms()
        self._done = 0
        self._asked = 0
        self._underway = Underway(parts.program.spec.budget_seconds, records.changed.send)
        self._drift = Alarm(records.ledger, self._tier)
        self._to_resume = deque(parts.journal.flights())

    async def run(self) -> str:
        """Work until it is enough, and say why it is."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._thinker.run)
            nursery.start_soon(self._tell_notes)
            self.idle.begin()
            async with trio.open_nursery() as lanes:
                for _ in range(self._options.lanes):
                    lanes.start_soon(self._work)
            self.idle.end()
            nursery.cancel_scope.cancel()
        why = self._enough()
        log.info("no further experiments: %s", why)
        return why

    @property
    def current(self) -> tuple[Current, ...]:
        """The experiments that run now, one a lane."""
        return tuple(current for current, _ in self._underway.running.values())

    async def _work(self) -> None:
        """One lane: first what was running when this node last ended."""
        while self._to_resume and not self._enough():
            await self._resume(self._to_resume.popleft())
        while not self._enough():
            if self.paused:
                await self._rest("paused")
            else:
                await self._step(choose(self._view()))

    # what to do

    def _view(self) -> View:
        now_ms = self._parts.clock_ms()
        return View(
            ledger=self._records.ledger,
            me=self._records.me,
            tier=self._tier,
            now_ms=now_ms,
            budget_ms=max(1, round(self._spec.budget_seconds * 1000)),
            live=self._live(),
            claims=self._claims(),
            proposed=self._records.chronicle.proposed,
            rebased=self._rebased,
            barred=self._bars.at(now_ms),
            busy=self._underway.busy,
            foreign=self._bars.foreign,
            draw=self._rng.random(),
            since_ms=self._since_ms,
        )

    def _enough(self) -> str:
        most, steps = self._options.max_experiments, self._underway.steps
        if most is not None and self._done + steps >= most:
            return f"{self._done} experiments done"
        own_ms = self._records.chronicle.own_ms
        hours = (self._parts.clock_ms() - own_ms[0]) / 3_600_000 if own_ms else 0.0
        return reason_to_stop(self._spec.stop, self._view(), own_ms=own_ms, running=steps, hours=hours)

    async def _step(self, choice: Choice) -> None:
        match choice.action:
            case Action.RUN:
                assert choice.duty is not None
                with self._underway.step(choice.commit):
                    await self._run_duty(choice.duty)
            case Action.REBASE | Action.RECOMBINE as how:
                with self._underway.step(choice.commit):
                    await self._put_together(choice.commit, choice.base, Origin(how.value))
            case Action.ASK if (idea := self._thinker.take()) is not None:
                with self._underway.step():
                    await self._try(idea, choice.base)
            case action:
                await self._rest("proposer" if action is Action.ASK else "nothing to do")

    async def _rest(self, cause: str) -> None:
        with self.idle.because(cause):
            await self._records.changed.wait(IDLE_SECONDS)

    async def _resume(self, flight: Flight) -> None:
        asset = self._parts.lineage.asset(flight.commit)
        if asset is None or not self._resumable(flight):
            log.info("%s is not resumed: it can't be run any more", _name(flight))
            self._parts.journal.drop(flight)
            return
        log.info("%s is resumed", _name(flight))
        with self._underway.step():
            await self._execute(flight, asset)

    def _resumable(self, flight: Flight) -> bool:
        """Whether its key is still free, and its code (of a proposer's edit: what the edit is on) may run."""
        code = flight.parent if flight.origin is Origin.AGENT else flight.commit
        free = self._next_index(flight.commit, flight.origin) == flight.index
        return free and code not in self._bars.at(self._parts.clock_ms())

    async def _run_duty(self, duty: Duty) -> None:
        try:
            asset = await self._assets.obtain(duty.commit)
        except UnavailableError as error:
            log.warning("no %s: %s", duty.origin.value, error)
            self._bars.put(duty.commit, self._parts.clock_ms() + RETRY_MS)
            return
        candidate = self._records.ledger.candidate(duty.commit)
        flight = Flight(duty.commit, candidate.parent if candidate else None, duty.origin, duty.index)
        self._parts.journal.begin(flight)
        await self._execute(flight, asset)
        if duty.origin is Origin.REPLICATION:
            self._parts.meters.replication()

    async def _try(self, idea: Idea, base: str) -> None:
        """Run an idea, first carried over where the base has moved since it was thought of; else drop it."""
        asset, outcome = await self._fit(idea, base)
        if outcome == "unavailable" and idea.base != base:  # an idea is not lost with a lead that nobody can have
            base = idea.base
            asset, outcome = await self._fit(idea, base)
        self._parts.meters.idea(outcome)
        if asset is None:
            log.info("an idea on %s is dropped (%s): %s", idea.base[:12], outcome, idea.edit.summary)
            return
        flight = await self._begin(base, asset, Origin.AGENT, idea.edit.summary, idea.edit.hypothesis)
        await self._execute(flight, asset)

    async def _fit(self, idea: Idea, base: str) -> tuple[bytes | None, str]:
        """An idea's asset on ``base``, None where it is of no use there any more; and what became of it."""
        asset: bytes | None = idea.edit.asset
        try:
            await self._assets.obtain(base)
            if idea.base != base:
                asset = await self._carry(idea.edit.asset, idea.base, base)
        except UnavailableError as error:
            log.warning("no base to edit: %s", error)
            self._bars.put(base, self._parts.clock_ms() + RETRY_MS)
            return None, "unavailable"
        if asset is None or len(asset) > MAX_ASSET_BYTES:
            return None, "conflict"
        if repeated := self._repeats.exactly(asset, base):
            self._parts.meters.duplicate(repeated)
            return None, "duplicate"
        return asset, "run" if idea.base == base else "carried over"

    async def _put_together(self, win: str, onto: str, origin: Origin) -> None:
        """Carry a win over to a base that it was not made on, and run it again; a conflict is dropped."""
        summary = summary_of(self._records.ledger, win)
        try:
            asset = await self._carry_win(win, onto)
        except UnavailableError as error:
            log.warning("no %s: %s", origin.value, error)
            self._bars.put(win, self._parts.clock_ms() + RETRY_MS)  # if it is the base, an edit of it will find out
            return
        outcome = "conflict" if asset is None else "known" if self._known(asset, onto) else "merged"
        self._parts.meters.rebase(outcome)
        log.info("%s of %s onto %s: %s (%s)", origin.value, win[:12], onto[:12], outcome, summary)
        flight = None
        if asset is not None and outcome == "merged":
            flight = await self._begin(onto, asset, origin, summary, f"{origin.value} of {win}")
        self._parts.journal.rebased(win, onto, outcome)
        self._rebased[win] = outcome
        if asset is not None and flight is not None:
            await self._execute(flight, asset)

    def _known(self, asset: bytes, onto: str) -> bool:
        """Whether this very asset has been an experiment, or is one of another lane now."""
        commit = self._parts.program.commits.candidate(onto, blob_id(asset))
        return self._repeats.taken(asset) or commit in self._underway.running

    async def _carry_win(self, win: str, onto: str) -> bytes | None:
        asset = await self._assets.obtain(win)
        return await self._carry(asset, common_base(self._records.ledger, win, onto), onto)

    async def _carry(self, asset: bytes, base: str, onto: str) -> bytes | None:
        """An edit made on ``base``, on ``onto``; None where it conflicts or is too large there."""
        old, new = await self._assets.obtain(base), await self._assets.obtain(onto)
        return await merge(self._parts.lineage, self._spec.asset, old, new, asset)

    # one experiment

    async def _begin(
        self, parent: str, asset: bytes, origin: Origin, summary: str, hypothesis: str
    ) -> Flight:
        """A new candidate: in the lineage first, then in flight."""
        await self._assets.obtain(parent)
        commit = self._parts.program.commits.candidate(parent, blob_id(asset))
        await self._parts.lineage.write([Step(commit, parent, asset)])
        flight = Flight(commit, parent, origin, self._next_index(commit, origin), summary, hypothesis)
        self._parts.journal.begin(flight)
        return flight

    async def _execute(self, flight: Flight, asset: bytes) -> None:
        """Not what another lane came to meanwhile, by another way."""
        if (twin := self._underway.running.get(flight.commit)) is not None:
            if twin[0].origin is not flight.origin:  # else it is the twin's own entry
                self._parts.journal.drop(flight)
            return
        with self._underway.engaged(flight.commit):
            await self._experiment(flight, asset)

    async def _experiment(self, flight: Flight, asset: bytes) -> None:
        tunables = self._repeats.tunables(asset)
        with self._underway.experiment(flight.commit):
            self._show(flight, Progress("starting", 0.0, None, 0.0), tunables)
            self._thinker.wake()
            await self._claim(flight, tunables)
            log.info("%s starts: %s", _name(flight), self._summary(flight))
            old = b"" if flight.parent is None else await self._assets.obtain(flight.parent)
            outcome = await self._parts.trainer.run(
                self._job(flight, old, asset), on_progress=lambda progress: self._show(flight, progress, tunables)
            )
        await self._tell(flight, outcome, old, asset, tunables)
        self._done += 1

    async def _claim(self, flight: Flight, tunables: Mapping[str, Scalar]) -> None:
        summary, budget = clip(self._summary(flight), MAX_NAME_BYTES), self._spec.budget_seconds
        now_ms = self._parts.clock_ms()
        await self._swarm.claim(Claim(now_ms, flight.commit, flight.origin, self._tier, tunables, summary, budget))

    def _job(self, flight: Flight, old: bytes, asset: bytes) -> Job:
        """A new edit may be stopped early where it falls behind its base; other runs go to their end, and are
        examined thoroughly."""
        new = flight.origin in FIRST_RUNS and flight.parent is not None
        runs = self._records.ledger.runs(flight.parent or "", self._tier) if new else ()
        return Job(
            asset,
            run_seed(flight.commit, self._records.me, flight.origin, flight.index),
            bar=bar(self._records.ledger, self._tier, flight, asset.count(b"\n") - old.count(b"\n")),
            stop_early=new and self._spec.stop_early,
            incumbent_curve=max((run.result.curve for run in runs), key=len, default=()),
        )

    async def _tell(
        self, flight: Flight, outcome: Outcome, old: bytes, asset: bytes, tunables: Mapping[str, Scalar]
    ) -> None:
        """Record, then publish what the swarm must hear now."""
        result = result_of(
            flight, outcome, old=old, asset=asset, path=self._spec.asset, author=self._records.me,
            device=self._parts.trainer.device, tunables=tunables, sequence=self._records.sequence,
            created_ms=self._parts.clock_ms(),
        )  # fmt: skip
        record = self._records.tell(result, flight)
        self._parts.meters.experiment(result.origin, replace(outcome, status=result.status))
        standing = level(self._records.ledger.standing(flight.commit, self._tier))
        log.info("%s %s: %s", _name(flight), self._verdict(result), standing or "no win")
        self._drift.look()
        if standing or flight.origin in TOLD_AT_ONCE:
            await self._swarm.publish(record)
        else:
            await self._swarm.mention(record, self._spec.budget_seconds)

    async def _tell_notes(self) -> None:
        while True:
            for note in self._brief.to_publish():
                await self._swarm.publish(note)
            await self._records.changed.wait(IDLE_SECONDS)

    def _show(self, flight: Flight, progress: Progress, tunables: Mapping[str, Scalar]) -> None:
        current = Current(
            flight.commit, flight.origin, self._summary(flight), progress.phase, progress.fraction,
            progress.seconds, self._spec.budget_seconds, progress.loss,
        )  # fmt: skip
        self._underway.running[flight.commit] = current, tunables

    def _summary(self, flight: Flight) -> str:
        return flight.summary or summary_of(self._records.ledger, flight.commit)

    def _verdict(self, result: Result) -> str:
        if result.metric is None:
            return f"{result.status.value} ({result.failure.strip()[-200:]})"
        return f"{self._spec.metric_name} {result.metric:.6g} {self._spec.unit}".rstrip()

    def _free_in(self, lanes: int) -> float:
        return self._underway.free_in(lanes, self.idle.resting)

    # what the proposer may know

    async def _context(self) -> Context | None:
        base = search_base(self._view())
        if base is None or self.paused or self._enough():  # an idea that nobody will run may cost money
            return None
        try:
            asset = await self._assets.obtain(base)
        except UnavailableError as error:
            log.warning("no base to edit: %s", error)
            self._bars.put(base, self._parts.clock_ms() + RETRY_MS)
            return None
        self._asked += 1
        seed = run_seed(base, self._records.me, Origin.AGENT, self._options.seed + self._asked)
        return self._brief.context(base, asset, seed, self._repeats, self._now_run())

    def _now_run(self) -> list[Attempt]:
        """What runs here, what waits for a lane, and what peers have claimed."""
        mine = [Attempt(now.commit, tunables, now.summary) for now, tunables in self._underway.running.values()]
        waiting = [self._repeats.attempt(idea.base, idea.edit) for idea in self._thinker.ideas]
        return [*mine, *waiting, *in_turn(self._claims())]

    def _claims(self) -> list[tuple[bytes, Claim]]:
        """Others' claims in force; who claims to need another budget than the program's, says what is not so."""
        return [one for one in self._swarm.claims() if one[1].budget_seconds <= self._spec.budget_seconds]

    def _next_index(self, commit: str, origin: Origin) -> int:
        return self._records.ledger.next_index(commit, self._tier, self._records.me, origin)


def _name(flight: Flight) -> str:
    return f"{flight.origin.value} of {flight.commit[:12]}"
