"""Whole nodes for tests, in one process over the in-memory network; proposers say what they are told."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from agent.proposer import Context, Edit, Proposer
from agent.tunables import write_tunables
from gossip.memory import MemoryNetwork
from node.journal import IN_MEMORY, Journal
from node.lineage import Lineage
from node.node import Node
from node.parts import Experimenter, Options, Parts
from node.snapshot import Snapshot
from protocol.identity import Identity
from protocol.statements import Scalar
from tests.sim.fakes import FakeTrainer, MemoryLineage, Tally
from trainer.program import Program, load_program

NUMBERS = load_program(Path(__file__).parents[1] / "programs" / "numbers")
EPOCH_MS = 1_800_000_000_000
#: So little noise that a gain of a hundredth is sure, and not none.
NOISE = 0.0005


class Script:
    """Proposes the given values of tunables, one set after the other, then nothing."""

    name = "script"

    def __init__(self, *edits: dict[str, Scalar]) -> None:
        self._edits = list(edits)
        self.contexts: list[Context] = []

    async def propose(self, context: Context) -> Edit | None:
        self.contexts.append(context)
        if not self._edits:
            return None
        values = self._edits.pop(0)
        return Edit(write_tunables(context.asset, context.asset_name, values), f"set {values}")

    @property
    def bases(self) -> set[str]:
        return {context.base for context in self.contexts}


@dataclass
class Built:
    node: Node
    parts: Parts
    script: Script
    tally: Tally = field(default_factory=Tally)

    def snapshot(self) -> Snapshot:
        return self.node.snapshot()


def build(
    network: MemoryNetwork,
    number: int,
    *edits: dict[str, Scalar],
    program: Program = NUMBERS,
    lineage: Lineage | None = None,
    journal: Journal | None = None,
    trainer: Experimenter | None = None,
    bootstrap: Sequence[str] = (),
    foreign: bool = True,
    max_experiments: int | None = None,
    lanes: int = 1,
    proposer: Proposer | None = None,
) -> Built:
    me = Identity(bytes([number]) * 32)
    script, tally = Script(*edits), Tally()
    parts = Parts(
        program=program,
        identity=me,
        journal=Journal(IN_MEMORY) if journal is None else journal,
        lineage=lineage or MemoryLineage(program.commits),
        trainer=trainer or FakeTrainer(program.spec.budget_seconds, NOISE),
        proposer=proposer or script,
        transport=network.transport(me.peer_id),
        meters=tally,
        clock_ms=lambda: EPOCH_MS + round(trio.current_time() * 1000),
    )
    options = Options(
        bootstrap=tuple(bootstrap), foreign=foreign, max_experiments=max_experiments, lanes=lanes, version="test"
    )
    return Built(Node(parts, options), parts, script, tally)


@asynccontextmanager
async def met(one: Built, other: Built) -> AsyncIterator[None]:
    """Both at work, and connected."""
    async with trio.open_nursery() as nursery:
        for each in (one, other):
            await nursery.start(each.node.run)
        await one.parts.transport.connect(other.snapshot().addresses[0])
        yield
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], seconds: float, one: Built) -> None:
    """Look whenever a record comes to ``one``, at least every second; fails after ``seconds``."""
    with trio.fail_after(seconds):
        while not condition():
            await one.node.records.changed.wait(1.0)
