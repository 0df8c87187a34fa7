"""Several experiments side by side on one machine, each on a device or a core of its own."""

import os
from collections.abc import Callable, Sequence

import trio

from protocol.errors import UserError
from trainer.device import Device
from trainer.experiment import Trainer
from trainer.job import Job, Outcome, Pin, Progress


def pins(wanted: int | None, kind: str, *, cpus: Sequence[int], gpus: int) -> list[Pin]:
    """A lane for each pin; ``wanted`` None is as many as the machine has room for.

    On CPUs that is one for each but one, which is left to the node and the user, since a run computes with one
    thread. A single lane is not pinned: the kernel knows better where there is room. Raises UserError for more
    lanes than there are GPUs or CPUs: they would spoil each other's time.
    """
    places = [Pin(gpu=number) for number in range(gpus)] if kind == "cuda" else [Pin(cpu=number) for number in cpus]
    if kind == "mps":
        places = places[:1]
    count = max(1, len(places) - (kind == "cpu")) if wanted is None else wanted
    if count > max(1, len(places)):
        raise UserError(f"{count} lanes on {len(places)} {kind}: give at most --lanes {len(places)}, or auto")
    return [Pin()] if count == 1 else places[:count]


def usable_cpus() -> list[int]:
    """Numbers of the CPUs that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


class Lanes:
    """Trainers as one that runs as many jobs at a time; further ones wait for a free lane."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self._all = trainers
        self._free = list(trainers)
        self._turn = trio.Semaphore(len(trainers))
        self.count = len(trainers)
        self.sandbox = trainers[0].sandbox
        self.device: Device = trainers[0].device

    async def keep_warm(self) -> None:
        """As ``Trainer.keep_warm``, for every lane."""
        async with trio.open_nursery() as nursery:
            for trainer in self._all:
                nursery.start_soon(trainer.keep_warm)

    async def run(
        self,
        job: Job,
        on_progress: Callable[[Progress], None] | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Outcome:
        """As ``Trainer.run``."""
        async with self._turn:
            trainer = self._free.pop()
            try:
                return await trainer.run(job, on_progress, on_output)
            finally:
                self._free.append(trainer)
