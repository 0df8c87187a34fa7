"""One run of one candidate: sandboxed, within its budget, scored by an examiner that it can't fool.

    trainer ── control ── candidate (runner and asset; training data from the clock's start on)
       │                      │ exam
       └────── control ── examiner (evaluator and validation data)

The trainer measures CPU and wall seconds itself and believes no figure of the candidate's but its training
loss, which decides nothing but an early stop. Whatever a candidate does ends in a status, and a line that
says why.
"""

import os
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
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
from trainer.inside.frames import MAX_FDS
from trainer.job import Caps, Job, Outcome, Progress
from trainer.log import Log, bounded
from trainer.program import Program
from trainer.sandbox import Sandbox
from trainer.spawn import Cell, Child, killed_by

#: Between two looks at a run's clock and memory: a look costs some 0.1 ms, a budget is seconds.
LOOK_EVERY = 0.05
#: Looks between two calls of ``on_progress`` for the clock's sake alone.
LOOKS_A_SHOW = 5
#: An honest runner sends some hundreds; what comes on top only wastes our time.
MAX_FRAMES = 10_000
#: From a child's last word to the end of its output and its exit status: they are on their way already.
DRAIN_SECONDS = 2.0
ENTROPY_BYTES = 32
#: One thread an experiment, so that experiments run side by side and no CPU second is wasted on waiting;
#: malloc keeps what it has (18 % more steps a second for the built-in program).
CANDIDATE_ENV: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}
THREADS = 1


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
    ) -> None:
        self.program = program
        self.data = data
        self.sandbox = sandbox
        self.device = device
        self.scratch = scratch
        self.caps = caps or Caps()
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


class _Ended(Exception):  # noqa: N818  how every run that is not scored leaves the conductor
    def __init__(self, status: Status, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass(frozen=True)
class _Party:
    """A child of a run: its process, our end of its control socket, what it printed."""

    child: Child
    channel: Channel
    log: Log
    drained: trio.Event = field(default_factory=trio.Event)

    async def drain(self) -> None:
        async for part in self.child.output:
            self.log.add(part)
        self.drained.set()


class _Experiment:
    """The state of one run: ``_conduct`` leads it through its phases while ``_watch`` looks at the clocks."""

    def __init__(
        self,
        trainer: Trainer,
        job: Job,
        folder: Path,
        on_progress: Callable[[Progress], None] | None,
        log: Log,
    ) -> None:
        self.trainer, self.job, self.folder, self.log = trainer, job, folder, log
        self.on_progress = on_progress
        self.spec = trainer.program.spec
        self.exam_folders = [trainer.data.validation]
        if job.holdout and trainer.data.holdout is not None:
            self.exam_folders.append(trainer.data.holdout)
        self.began = self.phase_began = trio.current_time()
        self.phase = "starting"
        self.frames = 0
        self.points: list[tuple[float, float]] = []
        self.cpu_base = self.cpu = self.wall = self.exam_seconds = 0.0
        self.peak = 0
        self.scores: list[tuple[float, float | None]] = []
        self.ended: _Ended | None = None
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

    # ---- processes

    async def _run(self, stack: AsyncExitStack) -> None:
        exams = [_pair(stack) for _ in self.exam_folders]
        async with trio.open_nursery() as nursery:
            cell = self._candidate_cell([mine.fileno() for mine, _ in exams])
            candidate = await self._start(cell, [mine for mine, _ in exams], self.log, stack, nursery)
            nursery.start_soon(self._watch, candidate.child)
            with self.conducting:
                try:
                    await self._conduct(candidate, [theirs for _, theirs in exams], stack, nursery)
                except _Ended as ended:
                    self.ended = ended
            self._enter("over")
            await candidate.child.kill()
            with trio.move_on_after(DRAIN_SECONDS):
                await candidate.drained.wait()
            nursery.cancel_scope.cancel()

    async def _start(
        self, cell: Cell, given: list[socket.socket], log: Log, stack: AsyncExitStack, nursery: trio.Nursery
    ) -> _Party:
        """Start a child with a control socket of its own. The sockets it is ``given`` are closed here."""
        ours, theirs = _pair(stack)
        cell = replace(
            cell,
            config={**cell.config, "control": theirs.fileno()},
            fds=[theirs.fileno(), *(taken.fileno() for taken in given)],
        )
        child = await stack.enter_async_context(self.trainer.sandbox.spawn(cell))
        for taken in (theirs, *given):
            taken.close()  # or its end could not be seen from the other side
        channel = Channel(ours)
        stack.callback(channel.close)
        party = _Party(child, channel, log)
        nursery.start_soon(party.drain)
        return party

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
            env=CANDIDATE_ENV,
            memory=memory,
            device=trainer.device.kind,
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
        )

    # ---- phases

    async def _conduct(
        self, candidate: _Party, exams: list[socket.socket], stack: AsyncExitStack, nursery: trio.Nursery
    ) -> None:
        """The phases of a run, in order. Raises _Ended for every way out but a score."""
        await self._expect(candidate, "ready")
        self.cpu_base = candidate.child.tree.measure().cpu
        self._enter("training")
        await self._hand_over(candidate.channel)
        examiners = []  # started while the candidate trains, so that nobody waits for them
        for index, exam in enumerate(exams):
            cell = self._examiner_cell(index, exam)
            examiners.append(await self._start(cell, [exam], Log(), stack, nursery))
        await self._expect(candidate, "trained")
        self._measure(candidate.child)
        self._check_budget()
        self._enter("examining")
        for examiner in examiners:
            self.scores.append(await self._examine(examiner, candidate))

    async def _hand_over(self, channel: Channel) -> None:
        files = self.trainer.train_files
        with ExitStack() as opened:
            fds = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in files.values()]
            for fd in fds:
                opened.callback(os.close, fd)
            await channel.send({"type": "start", "files": list(files)}, fds)

    async def _expect(self, candidate: _Party, wanted: str) -> None:
        """Take the candidate's frames up to the one of type ``wanted``."""
        while True:
            try:
                message = await candidate.channel.receive()
                if message is None:
                    raise await self._crashed(candidate)
                if message["type"] == wanted:
                    return
                self._take(message)
            except RemoteProtocolError as error:
                raise _Ended(Status.REJECTED, f"the candidate broke the protocol: {error.detail}") from error

    def _take(self, message: Mapping[str, Any]) -> None:
        self.frames += 1
        if message["type"] == "failed":
            raise _Ended(Status.CRASHED, text(message, "error"))
        if message["type"] != "progress" or self.phase != "training" or self.frames > MAX_FRAMES:
            kind = str(message["type"])[:40]
            raise RemoteProtocolError("frame", f"frame {self.frames}, {kind!r}, out of turn in {self.phase}")
        self.points.append((min(max(number(message, "fraction"), 0.0), 1.0), number(message, "loss")))
        self._show()
        if self.job.stop_early and is_behind(self.points, self.job.incumbent_curve):
            raise _Ended(
                Status.STOPPED_EARLY, f"behind the incumbent at {self.points[-1][0]:.0%} of the budget"
            )

    async def _crashed(self, candidate: _Party) -> _Ended:
        """The candidate hung up without a word: what its exit status and its output say."""
        status = None
        with trio.move_on_after(DRAIN_SECONDS):
            status = await candidate.child.wait()
            await candidate.drained.wait()
        how = "hung up" if status is None else "ended: " + killed_by(status)
        return _Ended(Status.CRASHED, candidate.log.failure(f"the candidate {how} while {self.phase}"))

    async def _examine(self, examiner: _Party, candidate: _Party) -> tuple[float, float | None]:
        """(metric, its standard error) by one examiner."""
        try:
            await self._hear(examiner, "ready")
            await examiner.channel.send({"type": "examine", "entropy": secrets.token_bytes(ENTROPY_BYTES)})
            verdict = await self._hear(examiner, "score", "reject", "gone")
            if verdict["type"] == "reject":
                raise _Ended(Status.REJECTED, bounded(text(verdict, "why")))
            if verdict["type"] == "gone":
                with trio.move_on_after(DRAIN_SECONDS):
                    await self._expect(candidate, "")
                raise _Ended(Status.CRASHED, candidate.log.failure("the candidate hung up on its examiner"))
            error = None if verdict.get("se") is None else abs(number(verdict, "se"))
            return number(verdict, "metric"), error
        except RemoteProtocolError as error:
            raise _Ended(Status.REJECTED, f"no score: {error.detail}") from error

    async def _hear(self, examiner: _Party, *wanted: str) -> dict[str, Any]:
        message = await examiner.channel.receive()
        if message is None:
            with trio.move_on_after(DRAIN_SECONDS):
                await examiner.drained.wait()
            raise _Ended(Status.REJECTED, examiner.log.failure("the examiner ended without a score"))
        if message["type"] == "failed":
            raise _Ended(Status.REJECTED, bounded(f"the evaluator failed: {text(message, 'error')}"))
        if message["type"] not in wanted:
            raise RemoteProtocolError("frame", f"a frame {message['type'][:40]!r} from the examiner")
        return message

    # ---- clocks

    async def _watch(self, child: Child) -> None:
        """Look at clocks and memory, and end the run that is over a limit."""
        looks = 0
        while self.phase != "over":
            self._measure(child)
            try:
                self._check_limits()
            except _Ended as ended:
                self.ended = ended
                self.conducting.cancel()
                return
            looks += 1
            if looks % LOOKS_A_SHOW == 1:
                self._show()
            await trio.sleep(LOOK_EVERY)

    def _measure(self, child: Child) -> None:
        usage = child.tree.measure()
        self.peak = max(self.peak, usage.memory)
        if self.phase == "training":
            self.cpu = usage.cpu - self.cpu_base
            self.wall = trio.current_time() - self.phase_began

    def _check_limits(self) -> None:
        if self.peak > self.spec.memory:
            used, limit = self.peak >> 20, self.spec.memory >> 20
            raise _Ended(
                Status.CRASHED, self.log.failure(f"used {used} MiB of memory, {limit} MiB are granted")
            )
        caps, elapsed = self.trainer.caps, trio.current_time() - self.phase_began
        if self.phase == "training":
            self._check_budget()
            return
        cap = caps.startup if self.phase == "starting" else caps.exam + self.spec.budget_seconds
        if elapsed > cap:
            raise _Ended(Status.TIMED_OUT, self.log.failure(f"still {self.phase} after {cap:g} s"))

    def _check_budget(self) -> None:
        caps, seconds, clock = self.trainer.caps, self.spec.budget_seconds, self.trainer.clock
        used = self._used()
        if used > seconds * (1 + caps.grace_share) + caps.grace:
            raise _Ended(Status.OVERRAN, f"used {used:.1f} {clock} seconds of a budget of {seconds:g}")
        if clock == "cpu" and self.wall > seconds * caps.wall:
            why = f"took {self.wall:.1f} wall seconds for {used:.1f} of {seconds:g} cpu seconds"
            raise _Ended(Status.TIMED_OUT, self.log.failure(why))

    def _used(self) -> float:
        return self.cpu if self.trainer.clock == "cpu" else self.wall

    def _enter(self, phase: str) -> None:
        now = trio.current_time()
        if self.phase == "examining":
            self.exam_seconds = now - self.phase_began
        self.phase, self.phase_began = phase, now

    def _show(self) -> None:
        if self.on_progress is not None:
            loss = self.points[-1][1] if self.points else None
            used = self._used()
            self.on_progress(Progress(self.phase, used / self.spec.budget_seconds, loss, used))

    def _anonymous(self, failure: str) -> str:
        """``failure`` without the paths of this machine: peers will read it."""
        return failure.replace(f"{self.folder}/", "").replace(str(Path.home()), "~")

    def _outcome(self) -> Outcome:
        total = trio.current_time() - self.began
        outcome = Outcome(
            Status.SCORED,
            cpu_seconds=self.cpu,
            wall_seconds=self.wall,
            overhead_seconds=max(0.0, total - self.wall - self.exam_seconds),
            peak_memory=self.peak,
            curve=thin(self.points),
        )
        if self.ended is not None:
            return replace(outcome, status=self.ended.status, failure=bounded(self._anonymous(self.ended.why)))
        (metric, error), *more = self.scores
        return replace(outcome, metric=metric, metric_se=error, holdout=more[0][0] if more else None)


def _pair(stack: AsyncExitStack) -> tuple[socket.socket, socket.socket]:
    """A socket pair that is closed with the run, where it was not before."""
    pair = socket.socketpair()
    for end in pair:
        stack.callback(end.close)
    return pair
