"""What a node is made of: each part behind an interface, so that tests can put others in its place."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from agent.proposer import Proposer
from gossip.meter import Meter
from gossip.transport import Transport
from node.journal import Journal
from node.lineage import Lineage
from protocol.identity import Identity
from protocol.statements import Origin
from trainer.device import Device
from trainer.job import Job, Outcome, Progress
from trainer.program import Program


class Experimenter(Protocol):
    """Runs candidates: ``trainer.experiment.Trainer``."""

    @property
    def device(self) -> Device: ...
    def run(self, job: Job, on_progress: Callable[[Progress], None] | None = None) -> Awaitable[Outcome]: ...


class Meters(Meter, Protocol):
    """Counts what happens: ``node.metrics.Metrics``."""

    def experiment(self, origin: Origin, outcome: Outcome) -> None: ...
    def rejected(self, reason: str) -> None: ...
    def rebase(self, outcome: str) -> None: ...
    def replication(self) -> None: ...
    def tokens(self, kind: str, tokens: int) -> None: ...
    def duplicate(self, kind: str) -> None: ...
    def idea(self, outcome: str) -> None: ...
    def thought(self, seconds: float, outcome: str) -> None: ...
    def idle(self, cause: str, seconds: float) -> None: ...


@dataclass(frozen=True)
class Parts:
    """``clock_ms`` is milliseconds since 1970."""

    program: Program
    identity: Identity
    journal: Journal
    lineage: Lineage
    trainer: Experimenter
    proposer: Proposer
    transport: Transport
    meters: Meters
    clock_ms: Callable[[], int]


@dataclass(frozen=True)
class Options:
    """How this node is to behave.

    foreign          whether peers' code may run here: a sandbox works, or the user said that none is needed
    max_experiments  stop after so many in this process
    lanes            experiments at a time; the trainer takes as many
    metrics_address  where others may scrape it, "" for nowhere
    bootstrap        addresses to dial first; remembered peers follow
    """

    seed: int = 0
    version: str = ""
    sandbox: str = ""
    foreign: bool = True
    max_experiments: int | None = None
    lanes: int = 1
    http: str = ""
    metrics_address: str = ""
    bootstrap: tuple[str, ...] = ()
