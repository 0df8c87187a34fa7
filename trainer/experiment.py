"""One run of one candidate: sandboxed, within its budget, scored by an examiner that it can't fool.

    trainer ── control ── candidate (runner and asset; training data from the clock's start on)
       │                      │ exam
       └────── control ── examiner (evaluator and validation data)

The trainer measures CPU and wall seconds itself and believes no figure of the candidate's but its training
loss, which decides nothing but an early stop. Whatever a candidate does ends in a status, and a line that
says why.

A candidate whose metric beats the job's bar is examined further: on the hold-out data, and, where the program
can compare, by two fresh sandboxes that know nothing but what it saved before its first question.
"""

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import trio

from protocol.errors import RemoteProtocolError, UserError
from protocol.statements import Status
from trainer import workspace
from trainer.asset import objection
from trainer.channel import Channel, number, text
from trainer.curve import is_behind, thin
from trainer.data import Data
from trainer.device import Device
from trainer.exam import CandidateGoneError, Score, compare, examine, is_better
from trainer.inside.examiner import TWINS
from trainer.inside.frames import MAX_FDS
from trainer.job import Caps, Job, Outcome, Pin, Progress
from trainer.log import Log, bounded
from trainer.party import DRAIN_SECONDS, Ended, Parties, Party
from trainer.prepared import Prepared, Setting, Spares
from trainer.program import Program
from trainer.sandbox import Sandbox
from trainer.saved import Saved
from trainer.spawn import Cell
from trainer.supervisor import LOOK_EVERY, Supervisor

#: An honest runner sends some hundreds; what comes on top only wastes our time.
MAX_FRAMES = 10_000
ANYWHERE = Pin()


class Trainer:
    """Runs candidates of one program on one device. ``scratch`` is a folder for workspaces.

    Raises UserError where the program's training data are more files than can be handed over.
    """

    def __init__(
        self,
        program: Program,
        data: Data,
        sandbox: Sandbox,
        device: Device,
        *,
        scratch: Path,
        caps: Caps | None = None,
        pin: Pin = ANYWHERE,
    ) -> None:
        clock = program.spec.clock
        clock = clock if clock != "auto" else "cpu" if device.kind == "cpu" else "wall"
        self.setting = Setting(program, data, sandbox, device, scratch, caps or Caps(), pin, clock)
        self.train_files = workspace.list_files(data.train)
        if len(self.train_files) > MAX_FDS:
            count = len(self.train_files)
            raise UserError(f"{count} files of training data; at most {MAX_FDS} can be handed over")
        self._spares = Spares(self.setting)

    @property
    def program(self) -> Program:
        return self.setting.program

    @property
    def device(self) -> Device:
        return self.setting.device

    @property
    def sandbox(self) -> Sandbox:
        return self.setting.sandbox

    async def keep_warm(self) -> None:
        """Until cancelled, prepare for the next run while one runs: it then starts at once."""
        await self._spares.keep()

    async def run(
        self,
        job: Job,
        on_progress: Callable[[Progress], None] | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Outcome:
        """Run one candidate: nothing is raised for what it does, UserError where no child can be started."""
        if why := objection(self.setting.program, job.asset):
            return Outcome(Status.REJECTED, failure=why)
        begun = trio.current_time()
        problem: BaseExceptionGroup[OSError] | None = None
        try:
            async with self._spares.take() as prepared:
                if on_output is not None:
                    prepared.candidate.log.follow(on_output)
                experiment = _Experiment(self.setting, self.train_files, job, prepared, on_progress)
                await experiment.run()
        except* OSError as errors:
            problem = errors
        if problem is not None:
            first = problem.exceptions[0]
            raise UserError(f"cannot run in sandbox {self.sandbox.name}: {first}") from problem
        return experiment.outcome(trio.current_time() - begun)


class _Experiment:
    """The state of one run: ``_conduct`` leads it through its phases while the supervisor looks at the clocks."""

    def __init__(
        self,
        setting: Setting,
        train_files: Mapping[str, Path],
        job: Job,
        prepared: Prepared,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.setting, self.train_files, self.job, self.prepared = setting, train_files, job, prepared
        self.spec, self.cells, self.log = setting.program.spec, prepared.cells, prepared.candidate.log
        self.supervisor = Supervisor(self.spec, setting.caps, setting.clock, self.log, on_progress)
        self.folders = setting.exam_folders
        self.saved = prepared.saved if job.bar is not None else None
        self.frames = 0
        self.points: list[tuple[float, float]] = []
        self.scores: list[Score] = []
        self.ended: Ended | None = None
        self.conducting = trio.CancelScope()

    async def run(self) -> None:
        candidate = self.prepared.candidate
        self.prepared.nursery.start_soon(self._watch, candidate)
        self.prepared.nursery.start_soon(self._watch_disk)
        with self.conducting:
            try:
                await self._conduct(candidate, self.prepared.exams, self.prepared.parties)
            except Ended as ended:
                self.ended = ended
        self.supervisor.enter("over")

    async def _watch(self, candidate: Party) -> None:
        ended = await self.supervisor.watch(candidate.child)
        if ended is not None:
            self._end(ended)

    async def _watch_disk(self) -> None:
        self._end(self._overuse(await self.prepared.disk.overused(self.prepared.parties.trees)))

    async def _look_at_disk(self) -> None:
        """Once more before the exam: a candidate may be done before it is looked at."""
        if why := await trio.to_thread.run_sync(self.prepared.disk.overuse, self.prepared.parties.trees):
            raise self._overuse(why)

    def _overuse(self, why: str) -> Ended:
        return Ended(Status.CRASHED, self.log.failure(why), "disk")

    def _end(self, ended: Ended) -> None:
        """From outside the conductor; what comes after the last score changes nothing."""
        if self.supervisor.phase != "over":
            self.ended = ended
            self.conducting.cancel()

    # ---- phases

    async def _conduct(self, candidate: Party, exams: list[socket.socket], parties: Parties) -> None:
        """The phases of a run, in order. Raises Ended for every way out but a score."""
        await self._expect(candidate, "ready")
        self.supervisor.begin(candidate.child)
        await self._hand_over(candidate.channel)
        # started while the candidate trains, so that nobody waits for it
        twins = [parties.pair() for _ in TWINS] if self.saved else []
        given = [exams[0], *(theirs for _, theirs in twins)]
        examiner = await self._start(self.cells.examiner(0, self.folders[0], given), given)
        trained = await self._expect(candidate, "trained")
        self.supervisor.measure(candidate.child)
        self.supervisor.check_budget()
        await self._look_at_disk()
        if self.saved is not None:
            self._seal(self.saved, trained.get("saved"))
        self.supervisor.enter("examining")
        self.scores.append(await self._examine(examiner, candidate))
        if is_better(self.spec, self.scores[0][0], self.job.bar):
            await self._examine_further(candidate, examiner, exams[1:], [mine for mine, _ in twins])

    async def _examine_further(
        self, candidate: Party, examiner: Party, exams: list[socket.socket], twins: list[socket.socket]
    ) -> None:
        """What is worth its while for a promising candidate: the hold-out data, and copies of it."""
        copies = [await self._start_twin(number, exam) for number, exam in zip(TWINS, twins, strict=False)]
        for index, exam in enumerate(exams, 1):
            cell = self.cells.examiner(index, self.folders[index], [exam])
            self.scores.append(await self._examine(await self._start(cell, [exam]), candidate))
        if copies:
            for copy in copies:
                await self._expect(copy, "ready")
            try:
                await compare(examiner)
            except CandidateGoneError as gone:
                await self._mourn(copies[gone.second])

    async def _start_twin(self, number: int, exam: socket.socket) -> Party:
        assert self.saved is not None
        return await self._start(self.cells.twin(number, exam, self.saved), [exam])

    async def _start(self, cell: Cell, given: list[socket.socket]) -> Party:
        """A child beside the candidate; its memory is bounded too."""
        party = await self.prepared.parties.start(cell, given, Log())
        self.prepared.nursery.start_soon(self._guard, party, cell.role)
        return party

    async def _guard(self, party: Party, role: str) -> None:
        while party.child.tree.measure().memory <= self.spec.memory:  # noqa: ASYNC110  nobody tells
            await trio.sleep(LOOK_EVERY)
        limit = self.spec.memory >> 20
        self._end(Ended(Status.REJECTED, f"the {role} beside it used more than {limit} MiB of memory", "memory"))

    async def _hand_over(self, channel: Channel) -> None:
        """The asset and the data: nothing foreign runs before."""
        self.cells.asset.parent.mkdir(parents=True, exist_ok=True)
        self.cells.asset.write_bytes(self.job.asset)
        self.cells.asset.chmod(0o644)  # the sandbox's user is another
        files = self.train_files
        with ExitStack() as opened:
            fds = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in files.values()]
            for fd in fds:
                opened.callback(os.close, fd)
            await channel.send({"type": "start", "seed": self.job.seed, "files": list(files)}, fds)

    def _seal(self, saved: Saved, size: object) -> None:
        try:
            saved.seal(size)
        except RemoteProtocolError as error:
            raise Ended(Status.REJECTED, f"the candidate broke the protocol: {error.detail}") from error

    async def _examine(self, examiner: Party, candidate: Party) -> Score:
        asked = 0.0

        def start() -> None:
            nonlocal asked
            asked = trio.current_time()

        def answered() -> None:
            if not self.scores:
                self.supervisor.check_answer(candidate.child, trio.current_time() - asked)

        try:
            return await examine(examiner, start, answered)
        except CandidateGoneError:
            await self._mourn(candidate)

    async def _mourn(self, party: Party) -> NoReturn:
        """Raises Ended with the last words of one that hung up on its examiner."""
        with trio.move_on_after(DRAIN_SECONDS):
            await self._expect(party, "")
        raise Ended(Status.CRASHED, party.log.failure("the candidate hung up on its examiner"))

    async def _expect(self, candidate: Party, wanted: str) -> dict[str, Any]:
        """Take the candidate's frames up to the one of type ``wanted``."""
        while True:
            try:
                message = await candidate.channel.receive()
                if message is None:
                    how = await candidate.rest()
                    why = f"the candidate {how} while {self.supervisor.phase}"
                    raise Ended(Status.CRASHED, candidate.log.failure(why))
                if message["type"] == wanted:
                    return message
                self._take(message)
            except RemoteProtocolError as error:
                raise Ended(Status.REJECTED, f"the candidate broke the protocol: {error.detail}") from error

    def _take(self, message: Mapping[str, Any]) -> None:
        self.frames += 1
        if message["type"] == "failed":
            raise Ended(Status.CRASHED, text(message, "error"))
        phase = self.supervisor.phase
        if message["type"] != "progress" or phase != "training" or self.frames > MAX_FRAMES:
            kind = str(message["type"])[:40]
            raise RemoteProtocolError("frame", f"frame {self.frames}, {kind!r}, out of turn in {phase}")
        self.points.append((min(max(number(message, "fraction"), 0.0), 1.0), number(message, "loss")))
        self.supervisor.loss = self.points[-1][1]
        self.supervisor.show()
        if self.job.stop_early and is_behind(self.points, self.job.incumbent_curve):
            why = f"behind the incumbent at {self.points[-1][0]:.0%} of the budget"
            raise Ended(Status.STOPPED_EARLY, why)

    # ---- the end

    def outcome(self, seconds: float) -> Outcome:
        """What came of it, ``seconds`` after it was asked for."""
        outcome = Outcome(
            Status.SCORED,
            cpu_seconds=self.supervisor.cpu,
            wall_seconds=self.supervisor.wall,
            exam_seconds=self.supervisor.exam,
            overhead_seconds=self.supervisor.overhead(seconds),
            peak_memory=self.supervisor.peak,
            curve=thin(self.points),
        )
        if self.ended is not None:
            failure = bounded(self._anonymous(self.ended.why))
            return replace(outcome, status=self.ended.status, failure=failure, limit=self.ended.limit)
        (metric, error), *more = self.scores
        return replace(outcome, metric=metric, metric_se=error, holdout=more[0][0] if more else None)

    def _anonymous(self, failure: str) -> str:
        """``failure`` without the paths of this machine: peers will read it."""
        return failure.replace(f"{self.cells.folder}/", "").replace(str(Path.home()), "~")
