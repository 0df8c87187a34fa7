"""One run of one candidate: sandboxed, within its budget, scored by an examiner that it can't fool.

    trainer ── control ── candidate (runner and asset; training data from the clock's start on)
       │                      │ exam
       └────── control ── examiner (evaluator and validation data)

The trainer measures CPU and wall seconds itself and believes no figure of the candidate's but its training
loss, which decides nothing but an early stop. Whatever a candidate does ends in a status, and a line that
says why.
"""

import os
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import trio

from protocol.errors import RemoteProtocolError, UserError
from protocol.statements import Status
from trainer import workspace
from trainer.channel import Channel, number, text
from trainer.curve import is_behind, thin
from trainer.data import Data
from trainer.device import Device
from trainer.exam import CandidateGoneError, Score, examine
from trainer.inside.frames import MAX_FDS
from trainer.job import Caps, Job, Outcome, Pin, Progress
from trainer.log import Log, bounded
from trainer.party import DRAIN_SECONDS, Ended, Parties, Party
from trainer.program import Program
from trainer.sandbox import Sandbox
from trainer.spawn import Cell
from trainer.supervisor import Supervisor

#: An honest runner sends some hundreds; what comes on top only wastes our time.
MAX_FRAMES = 10_000
#: One thread an experiment, so that experiments run side by side and no CPU second is wasted on waiting;
#: malloc keeps what it has (18 % more steps a second for the built-in program).
CANDIDATE_ENV = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}
THREADS = 1
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
        self.program = program
        self.data = data
        self.sandbox = sandbox
        self.device = device
        self.scratch = scratch
        self.caps = caps or Caps()
        self.pin = pin
        self.train_files = workspace.list_files(data.train)
        if len(self.train_files) > MAX_FDS:
            count = len(self.train_files)
            raise UserError(f"{count} files of training data; at most {MAX_FDS} can be handed over")
        clock = program.spec.clock
        self.clock = clock if clock != "auto" else "cpu" if device.kind == "cpu" else "wall"

    async def run(
        self,
        job: Job,
        on_progress: Callable[[Progress], None] | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Outcome:
        """Run one candidate: nothing is raised for what it does, UserError where no child can be started."""
        async with workspace.temporary(self.scratch) as folder:
            return await _Experiment(self, job, folder, on_progress, Log(on_output)).run()


class _Experiment:
    """The state of one run: ``_conduct`` leads it through its phases while the supervisor looks at the clocks."""

    def __init__(
        self,
        trainer: Trainer,
        job: Job,
        folder: Path,
        on_progress: Callable[[Progress], None] | None,
        log: Log,
    ) -> None:
        self.trainer, self.job, self.folder, self.log = trainer, job, folder, log
        self.spec = trainer.program.spec
        self.supervisor = Supervisor(self.spec, trainer.caps, trainer.clock, log, on_progress)
        self.exam_folders = [trainer.data.validation]
        if job.holdout and trainer.data.holdout is not None:
            self.exam_folders.append(trainer.data.holdout)
        self.frames = 0
        self.points: list[tuple[float, float]] = []
        self.scores: list[Score] = []
        self.ended: Ended | None = None
        self.conducting = trio.CancelScope()

    async def run(self) -> Outcome:
        files = {**self.trainer.program.files, self.spec.asset: self.job.asset}
        exams = len(self.exam_folders)
        await trio.to_thread.run_sync(workspace.lay_out, self.folder, self.spec, files, exams)
        problem: BaseExceptionGroup[OSError] | None = None
        try:
            async with AsyncExitStack() as stack:
                await self._run(stack)
        except* OSError as errors:
            problem = errors
        if problem is not None:
            first = problem.exceptions[0]
            raise UserError(f"cannot run in sandbox {self.trainer.sandbox.name}: {first}") from problem
        return self._outcome()

    async def _run(self, stack: AsyncExitStack) -> None:
        async with trio.open_nursery() as nursery:
            parties = Parties(self.trainer.sandbox, stack, nursery)
            exams = [parties.pair() for _ in self.exam_folders]
            cell = self._candidate_cell([mine.fileno() for mine, _ in exams])
            candidate = await parties.start(cell, [mine for mine, _ in exams], self.log)
            nursery.start_soon(self._watch, candidate)
            with self.conducting:
                try:
                    await self._conduct(candidate, [theirs for _, theirs in exams], parties)
                except Ended as ended:
                    self.ended = ended
            self.supervisor.enter("over")
            await candidate.child.kill()
            with trio.move_on_after(DRAIN_SECONDS):
                await candidate.drained.wait()
            nursery.cancel_scope.cancel()

    async def _watch(self, candidate: Party) -> None:
        ended = await self.supervisor.watch(candidate.child)
        if ended is not None:
            self.ended = ended
            self.conducting.cancel()

    # ---- what the children get

    def _candidate_cell(self, exams: list[int]) -> Cell:
        trainer, home = self.trainer, self.folder / workspace.CANDIDATE
        config = {
            "files": str(home / "files"),
            "asset": self.spec.asset,
            "runner": self.spec.runner,
            "workspace": str(home / "work"),
            "seed": self.job.seed,
            "device": trainer.device.kind,
            "threads": THREADS,
            "clock": trainer.clock,
            "seconds": self.spec.budget_seconds,
            "exams": exams,
        }
        memory = self.spec.memory if trainer.device.kind == "cpu" else 0
        return Cell(
            "candidate",
            config,
            home / "work",
            [home / "files"],
            env=CANDIDATE_ENV | ({} if trainer.pin.gpu is None else {"CUDA_VISIBLE_DEVICES": str(trainer.pin.gpu)}),
            memory=memory,
            device=trainer.device.kind,
            cpu=trainer.pin.cpu,
        )

    def _examiner_cell(self, index: int, exam: socket.socket) -> Cell:
        home, data = self.folder / workspace.EXAMINER, self.exam_folders[index]
        evaluator = home / "evaluator.py"
        return Cell(
            "examiner",
            {"evaluator": str(evaluator), "data": str(data) if data else "", "exam": exam.fileno()},
            home / f"work-{index}",
            [evaluator, *([data] if data else [])],
            env=CANDIDATE_ENV,
            memory=self.spec.memory,
            cpu=self.trainer.pin.cpu,
        )

    # ---- phases

    async def _conduct(self, candidate: Party, exams: list[socket.socket], parties: Parties) -> None:
        """The phases of a run, in order. Raises Ended for every way out but a score."""
        await self._expect(candidate, "ready")
        self.supervisor.begin(candidate.child)
        await self._hand_over(candidate.channel)
        examiners = []  # started while the candidate trains, so that nobody waits for them
        for index, exam in enumerate(exams):
            examiners.append(await parties.start(self._examiner_cell(index, exam), [exam], Log()))
        await self._expect(candidate, "trained")
        self.supervisor.measure(candidate.child)
        self.supervisor.check_budget()
        self.supervisor.enter("examining")
        for examiner in examiners:
            self.scores.append(await self._examine(examiner, candidate))

    async def _hand_over(self, channel: Channel) -> None:
        files = self.trainer.train_files
        with ExitStack() as opened:
            fds = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in files.values()]
            for fd in fds:
                opened.callback(os.close, fd)
            await channel.send({"type": "start", "files": list(files)}, fds)

    async def _examine(self, examiner: Party, candidate: Party) -> Score:
        try:
            return await examine(examiner)
        except CandidateGoneError:
            with trio.move_on_after(DRAIN_SECONDS):
                await self._expect(candidate, "")
            raise Ended(Status.CRASHED, self.log.failure("the candidate hung up on its examiner")) from None

    async def _expect(self, candidate: Party, wanted: str) -> None:
        """Take the candidate's frames up to the one of type ``wanted``."""
        while True:
            try:
                message = await candidate.channel.receive()
                if message is None:
                    how = await candidate.rest()
                    why = f"the candidate {how} while {self.supervisor.phase}"
                    raise Ended(Status.CRASHED, self.log.failure(why))
                if message["type"] == wanted:
                    return
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

    def _outcome(self) -> Outcome:
        outcome = Outcome(
            Status.SCORED,
            cpu_seconds=self.supervisor.cpu,
            wall_seconds=self.supervisor.wall,
            overhead_seconds=self.supervisor.overhead,
            peak_memory=self.supervisor.peak,
            curve=thin(self.points),
        )
        if self.ended is not None:
            return replace(outcome, status=self.ended.status, failure=bounded(self._anonymous(self.ended.why)))
        (metric, error), *more = self.scores
        return replace(outcome, metric=metric, metric_se=error, holdout=more[0][0] if more else None)

    def _anonymous(self, failure: str) -> str:
        """``failure`` without the paths of this machine: peers will read it."""
        return failure.replace(f"{self.folder}/", "").replace(str(Path.home()), "~")
