"""A node at one moment: frozen, so that HTTP, display and metrics may read it while the node works."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.statements import Origin, Status


@dataclass(frozen=True)
class Best:
    """A commit, its metric (program's unit and direction), and who first reported it."""

    commit: str
    metric: float
    tier: str
    peer: str
    runs: int
    summary: str


@dataclass(frozen=True)
class Row:
    """One experiment; memory in bytes, times in seconds. ``standing`` is its candidate's, "" for none."""

    record_id: str
    created_ms: int
    commit: str
    parent: str | None
    metric: float | None
    status: Status
    origin: Origin
    peer: str
    tier: str
    summary: str
    standing: str
    cpu_seconds: float
    wall_seconds: float
    memory: int


@dataclass(frozen=True)
class Current:
    """The experiment that runs now; ``fraction`` is of the budget."""

    commit: str
    origin: Origin
    summary: str
    phase: str
    fraction: float
    seconds: float
    budget_seconds: float
    loss: float | None


@dataclass(frozen=True)
class Snapshot:
    """``sigma`` is this tier's noise; ``experiments_total`` counts all results that we hold.

    ``promising`` and ``accepted`` count candidates of this tier, genesis left out. ``stopped`` says why the
    stopping criterion held, "" while it does not.
    """

    swarm_id: str
    peer_id: str
    program: str
    metric_name: str
    unit: str
    goal: str
    tier: str
    sandbox: str
    version: str
    addresses: tuple[str, ...] = ()
    http: str = ""
    peers: tuple[str, ...] = ()
    records: int = 0
    sigma: float = 0.0
    incumbent: Best | None = None
    incumbents: Mapping[str, Best] = field(default_factory=dict)
    proven: Mapping[str, Best] = field(default_factory=dict)
    global_best: Best | None = None
    experiments_total: int = 0
    promising: int = 0
    accepted: int = 0
    by_status: Mapping[str, int] = field(default_factory=dict)
    by_origin: Mapping[str, int] = field(default_factory=dict)
    own_experiments: int = 0
    current: Current | None = None
    last: tuple[Row, ...] = ()
    started_ms: int = 0
    stopped: str = ""
