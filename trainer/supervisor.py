"""The clocks and limits of one run, held from outside: what a candidate says of itself is no measure.

A run goes through the phases starting, training, examining and over. Only training counts against the budget;
the other phases have caps of their own.
"""

from collections.abc import Callable

import trio

from protocol.statements import Status
from trainer.job import Caps, Progress
from trainer.log import Log
from trainer.party import Ended
from trainer.program import Spec
from trainer.spawn import PROCESSES, Child

#: Between two looks at a run's clock and memory: a look costs some 0.1 ms, a budget is seconds.
LOOK_EVERY = 0.05
#: Looks between two calls of ``on_progress`` for the clock's sake alone.
LOOKS_A_SHOW = 5


class Supervisor:
    """``clock`` is "cpu" or "wall": which seconds count. Seconds are those of training alone, memory is bytes."""

    def __init__(
        self, spec: Spec, caps: Caps, clock: str, log: Log, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self._spec, self._caps, self._clock, self._log = spec, caps, clock, log
        self._on_progress = on_progress
        self._cpu_base = 0.0
        self._began = trio.current_time()
        self._phase_began = self._began
        self.exam = 0.0
        self.phase = "starting"
        self.cpu = self.wall = 0.0
        self.peak = 0
        self.processes = 0
        self.loss: float | None = None

    def begin(self, child: Child) -> None:
        """From now on the candidate trains."""
        self._cpu_base = child.tree.measure().cpu
        self.enter("training")

    def enter(self, phase: str) -> None:
        now = trio.current_time()
        if self.phase == "examining":
            self.exam = now - self._phase_began
        self.phase, self._phase_began = phase, now

    def overhead(self, seconds: float) -> float:
        """What of the ``seconds`` of a run was neither training nor examination."""
        return max(0.0, seconds - self.wall - self.exam)

    async def watch(self, child: Child) -> Ended | None:
        """Look at clocks and memory until the run is over; what ended it where that was a limit."""
        looks = 0
        while self.phase != "over":
            self.measure(child)
            try:
                self._check_limits()
            except Ended as ended:
                return ended
            looks += 1
            if looks % LOOKS_A_SHOW == 1:
                self.show()
            await trio.sleep(LOOK_EVERY)
        return None

    def measure(self, child: Child) -> None:
        usage = child.tree.measure()
        self.peak = max(self.peak, usage.memory)
        self.processes = usage.processes
        if self.phase == "training":
            self.cpu = usage.cpu - self._cpu_base
            self.wall = trio.current_time() - self._phase_began

    def check_answer(self, child: Child, waited: float) -> None:
        """The first answer, ``waited`` wall seconds after its question: until then the clock runs on, or a
        candidate would train on in its exam."""
        late = child.tree.measure().cpu - self._cpu_base - self.cpu if self._clock == "cpu" else waited
        self.check_budget(max(0.0, late))

    def check_budget(self, late: float = 0.0) -> None:
        """Raises Ended for training that took too long; ``late`` seconds of it after it said it had ended."""
        caps, seconds, clock = self._caps, self._spec.budget_seconds, self._clock
        used = self._used() + late
        if used > seconds * (1 + caps.grace_share) + caps.grace:
            raise Ended(Status.OVERRAN, f"used {used:.1f} {clock} seconds of a budget of {seconds:g}", "budget")
        if clock == "cpu" and self.wall > seconds * caps.wall:
            why = f"took {self.wall:.1f} wall seconds for {used:.1f} of {seconds:g} cpu seconds"
            raise Ended(Status.TIMED_OUT, self._log.failure(why), "wall")

    def show(self) -> None:
        if self._on_progress is not None:
            used = self._used()
            self._on_progress(Progress(self.phase, used / self._spec.budget_seconds, self.loss, used))

    def _check_limits(self) -> None:
        if self.peak > self._spec.memory:
            used, limit = self.peak >> 20, self._spec.memory >> 20
            why = f"used {used} MiB of memory, {limit} MiB are granted"
            raise Ended(Status.CRASHED, self._log.failure(why), "memory")
        if self.processes > PROCESSES:
            why = f"started {self.processes} processes, {PROCESSES} are granted"
            raise Ended(Status.CRASHED, self._log.failure(why), "processes")
        if self.phase == "training":
            self.check_budget()
            return
        caps, elapsed = self._caps, trio.current_time() - self._phase_began
        name, cap = ("startup", caps.startup)
        if self.phase == "examining":
            name, cap = "examination", caps.exam + self._spec.budget_seconds
        if elapsed > cap:
            raise Ended(Status.TIMED_OUT, self._log.failure(f"still {self.phase} after {cap:g} s"), name)

    def _used(self) -> float:
        return self.cpu if self._clock == "cpu" else self.wall
