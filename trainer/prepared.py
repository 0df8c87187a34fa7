"""A child that waits for a candidate: Python, torch and the program's runner are loaded, the asset is not.

It is started while the last run trains, so that a run need not wait for it, and serves one candidate: nothing of
another's has run in it. A spare that does more than wait is ended, since its runner may be a stranger's.
"""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio
from trio_typing import TaskStatus

from trainer import workspace
from trainer.cells import Cells
from trainer.data import Data
from trainer.device import Device
from trainer.disk import Disk
from trainer.exam import compares
from trainer.job import Caps, Pin
from trainer.log import Log
from trainer.party import DRAIN_SECONDS, Parties, Party
from trainer.program import Program
from trainer.sandbox import Sandbox
from trainer.saved import Saved

log = logging.getLogger(__name__)

#: Between two looks at a spare; it only waits.
LOOK_EVERY = 0.5
#: CPU seconds that a spare may use once it should be warm: threads of libraries wake now and then.
IDLE_CPU = 1.0
#: After a spare could not be made; runs start cold meanwhile.
RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class Setting:
    """What all runs of a trainer share. ``clock`` is cpu or wall; ``scratch`` a folder for workspaces."""

    program: Program
    data: Data
    sandbox: Sandbox
    device: Device
    scratch: Path
    caps: Caps
    pin: Pin
    clock: str

    @property
    def exam_folders(self) -> list[Path | None]:
        """Validation, and the hold-out where there is one."""
        return [self.data.validation, *([self.data.holdout] if self.data.holdout else [])]


@dataclass(frozen=True)
class Prepared:
    """``exams`` are the ends that examiners get, one for each exam folder; tasks of the run belong in ``nursery``."""

    cells: Cells
    disk: Disk
    parties: Parties
    nursery: trio.Nursery
    candidate: Party
    exams: list[socket.socket]
    saved: Saved | None


@asynccontextmanager
async def prepare(setting: Setting) -> AsyncIterator[Prepared]:
    """A child, and what a run needs; on leaving, all of it is gone. Raises OSError where it can't be started."""
    spec, count = setting.program.spec, len(setting.exam_folders)
    files = {path: data for path, data in setting.program.files.items() if path != spec.asset}
    async with workspace.temporary(setting.scratch) as folder:
        await trio.to_thread.run_sync(workspace.lay_out, folder, spec, files, count)
        async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
            disk = Disk(folder)
            saved = stack.enter_context(Saved()) if compares(spec, files) else None
            parties = Parties(setting.sandbox, stack, nursery)
            cells = Cells(folder, spec, setting.device.kind, setting.clock, setting.pin)
            pairs = [parties.pair() for _ in range(count)]
            given = [mine for mine, _ in pairs]
            candidate = await parties.start(cells.candidate(given, saved), given, Log())
            try:
                yield Prepared(cells, disk, parties, nursery, candidate, [theirs for _, theirs in pairs], saved)
            finally:
                await candidate.child.kill()
                with trio.CancelScope(shield=True), trio.move_on_after(DRAIN_SECONDS):
                    await candidate.drained.wait()
                nursery.cancel_scope.cancel()


@dataclass
class _Spare:
    prepared: Prepared
    taken: trio.Event = field(default_factory=trio.Event)
    done: trio.Event = field(default_factory=trio.Event)


class Spares:
    """Keeps one child ahead of the runs while ``keep`` runs; without it, each run waits for a child of its own."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._spare: _Spare | None = None

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Prepared]:
        """The spare where there is one that is well, else a fresh child. Raises OSError."""
        spare, self._spare = self._spare, None
        if spare is None or not spare.prepared.candidate.child.running:
            async with prepare(self._setting) as prepared:
                yield prepared
            return
        spare.taken.set()
        try:
            yield spare.prepared
        finally:
            spare.done.set()

    async def keep(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await nursery.start(self._serve)

    async def _serve(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The life of one spare; started when another one is wanted."""
        try:
            async with prepare(self._setting) as prepared:
                spare = self._spare = _Spare(prepared)
                await self._guard(spare)
                if self._spare is spare:
                    self._spare = None
                task_status.started()
                if spare.taken.is_set():
                    await spare.done.wait()
        except* OSError as errors:
            log.debug("no spare: %s", errors.exceptions[0])
            await trio.sleep(RETRY_SECONDS)
            task_status.started()

    async def _guard(self, spare: _Spare) -> None:
        """Until it is taken, has ended, or was not quiet."""
        child, setting = spare.prepared.candidate.child, self._setting
        begun, most = trio.current_time(), None
        while child.running and not spare.taken.is_set():
            usage = child.tree.measure()
            if most is None and trio.current_time() - begun > setting.caps.startup:
                most = usage.cpu + IDLE_CPU
            loud = usage.memory > setting.program.spec.memory or (most is not None and usage.cpu > most)
            if loud or spare.prepared.disk.overuse(spare.prepared.parties.trees):
                log.warning("a spare sandbox did not wait quietly, and is ended")
                return
            with trio.move_on_after(LOOK_EVERY):
                await spare.taken.wait()
