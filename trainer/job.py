"""What a trainer is asked for, what it says while it works, and what comes of it."""

from dataclasses import dataclass, field

from protocol.statements import Status
from trainer.curve import Curve

#: What a run is ended at: its budget, the caps of its other phases, and what the sandbox grants.
LIMITS = ("budget", "wall", "startup", "examination", "memory", "processes", "disk")


@dataclass(frozen=True)
class Pin:
    """Where a run computes: on one CPU, or on one GPU, by its number; neither is anywhere."""

    cpu: int | None = None
    gpu: int | None = None


@dataclass(frozen=True)
class Caps:
    """Limits in wall seconds besides the budget, which bound what the budget does not count.

    startup      until the candidate is ready: torch on a cold disk takes 20 s
    exam         for an examination, on top of as long as the budget
    grace        over the budget, for an honest runner to end its last step, and as a share of the budget
    wall         on the CPU clock: how many times the budget the wall clock may show on a busy machine
    """

    startup: float = 120.0
    exam: float = 120.0
    grace: float = 0.5
    grace_share: float = 0.05
    wall: float = 4.0


@dataclass(frozen=True)
class Job:
    """What to run. ``incumbent_curve`` matters only with ``stop_early``.

    A metric better than ``bar`` is looked into thoroughly: the hold-out data are scored, and fresh copies must
    answer alike. None is never; the worst infinity of the goal is always.
    """

    asset: bytes = field(repr=False)
    seed: int
    bar: float | None = None
    stop_early: bool = False
    incumbent_curve: Curve = ()


@dataclass(frozen=True)
class Progress:
    """``phase``: starting, training or examining; seconds, and their fraction of the budget, by its clock."""

    phase: str
    fraction: float
    loss: float | None
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    CPU and wall seconds are those of training, exam seconds are wall; overhead is what is neither training nor
    examination; memory is the tree's peak, in bytes. ``failure`` says why a run was not scored, in at most 2 KiB,
    and ``limit`` which of LIMITS it was ended at, "" for none.
    """

    status: Status
    metric: float | None = None
    metric_se: float | None = None
    holdout: float | None = None
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    exam_seconds: float = 0.0
    overhead_seconds: float = 0.0
    peak_memory: int = 0
    curve: tuple[tuple[float, float], ...] = ()
    failure: str = ""
    limit: str = ""
