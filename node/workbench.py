"""What runs candidates on this machine: sandbox, device and data, found out in worker threads and tried."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from protocol.errors import UserError
from trainer.data import prepare
from trainer.device import detect
from trainer.experiment import Trainer
from trainer.lanes import Lanes, pins, usable_cpus
from trainer.probe import strongest
from trainer.program import Program
from trainer.sandbox import BACKENDS, Sandbox, Unsafe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workbench:
    """``foreign`` is whether peers' code may run on it."""

    trainer: Lanes
    foreign: bool

    @property
    def sandbox(self) -> str:
        return self.trainer.sandbox.name


async def open_workbench(
    program: Program,
    *,
    cache: Path,
    scratch: Path,
    device: str | None,
    unsafe: bool,
    own: bool,
    lanes: int | None = 1,
    backends: Sequence[Callable[[], Sandbox]] = BACKENDS,
) -> Workbench:
    """``lanes`` is how many experiments run side by side, None for as many as there is room for; ``own``
    whether the program's code is ours or the user's own, and so may run without a sandbox.

    Raises UserError for data that can't be had, a device that is not there, and for a stranger's program
    where no sandbox holds.
    """
    found = await trio.to_thread.run_sync(detect, device)
    places = pins(lanes, found.kind, cpus=usable_cpus(), gpus=found.count)
    sandbox, foreign = await _sandbox(scratch, backends, unsafe=unsafe, own=own)
    data = await trio.to_thread.run_sync(prepare, program, cache, log.info)
    trainers = [Trainer(program, data, sandbox, found, scratch=scratch, pin=pin) for pin in places]
    return Workbench(Lanes(trainers), foreign)


async def _sandbox(
    scratch: Path, backends: Sequence[Callable[[], Sandbox]], *, unsafe: bool, own: bool
) -> tuple[Sandbox, bool]:
    if unsafe:
        log.warning("--unsafe-no-sandbox: peers' code runs here with all that you may do yourself")
        return Unsafe(), True
    tried = await strongest(scratch, backends)
    if tried.sandbox is not None:
        for reason in tried.reasons:
            log.info("sandbox %s is used, because of %s", tried.sandbox.name, reason)
        return tried.sandbox, True
    reasons = "; ".join(tried.reasons)
    if not own:
        raise UserError(
            f"no sandbox holds here, and the program is a stranger's ({reasons}): install bubblewrap, or take"
            " the risk with --unsafe-no-sandbox"
        )
    log.warning("no sandbox holds here (%s): this node runs no code but its own; install bubblewrap", reasons)
    return Unsafe(), False
