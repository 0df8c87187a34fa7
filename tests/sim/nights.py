"""A night of N nodes on a virtual clock: whole nodes with the real ledger, choice, rebase, gossip and keyless proposer;
a run's outcome is that of a model of recorded real runs of lm-mini, with their noise. A proposer thinks in no time, as
it does ahead of a run.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import trio

import agent.local_search
import node.brief
import node.choose
import protocol.assignment
import protocol.trust
from agent.local_search import LocalSearch
from agent.tunables import read_tunables
from gossip.memory import MemoryNetwork
from node.journal import IN_MEMORY, Journal
from node.node import Node
from node.parts import Options, Parts
from protocol.statements import Origin, Status
from tests.bench.local_search import Process, Table, Trees
from tests.sim.fakes import OVERHEAD, MemoryLineage, Tally
from tests.sim.swarm import identity, latency, now_ms, seed_scheduler
from trainer.device import Device
from trainer.job import Job, Outcome, Progress
from trainer.program import Program

#: Virtual seconds between two looks at the incumbents.
LOOK_SECONDS = 5.0
#: Budgets after which a swarm is given up.
MOST_BUDGETS = 400
TIER = "simulated"
#: By how much the metrics of one tier are above those of the tier before it.
TIERS_APART = 0.5
#: By how much a liar betters the metric of an edit that it is the first to run.
LIE = 0.3


class World:
    """What stands in for training: a model fitted to the table, and its noise."""

    def __init__(self, kind: type[Process] | type[Trees], table: Table) -> None:
        self._table = table
        self._model = kind(table.features, table.metrics, table.noise)
        self._known: dict[bytes, float] = {}
        self.noise = table.noise
        self.genesis = self.loss(table.asset)

    def loss(self, asset: bytes) -> float:
        """The model's metric of an asset, without noise."""
        if asset not in self._known:
            values = {name: item.value for name, item in read_tunables(asset, "train.py").items()}
            self._known[asset] = float(self._model.predict(np.array([self._table.row(values)]))[0])
        return self._known[asset]


class Trainer:
    """Sleeps for the budget. ``ran`` holds what anybody has run; who ``lies`` betters what nobody has."""

    def __init__(
        self, world: World, budget_seconds: float, ran: set[bytes], *, lies: bool = False, tier: int = 0
    ) -> None:
        self.device = Device("cpu", "simulated", f"{TIER}-{tier}" if tier else TIER, "none")
        self._apart = TIERS_APART * tier
        self._world = world
        self._budget = budget_seconds
        self._ran = ran
        self._lies = lies
        self.runs = 0

    async def run(self, job: Job, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
        rng = random.Random(job.seed)
        lie = LIE if self._lies and job.asset not in self._ran else 0.0
        self._ran.add(job.asset)
        seconds = self._budget * (1 + OVERHEAD * rng.random())
        await trio.sleep(seconds)
        self.runs += 1
        metric = self._world.loss(job.asset) + rng.gauss(0.0, self._world.noise) + self._apart - lie
        return Outcome(
            status=Status.SCORED, metric=metric, metric_se=0.0, holdout=None, cpu_seconds=self._budget,
            wall_seconds=seconds, overhead_seconds=seconds - self._budget, peak_memory=1 << 20, curve=(), failure="",
        )  # fmt: skip


@dataclass(frozen=True)
class Night:
    """``budgets`` until each target was reached, infinite where it was not. ``experiments`` of all nodes in the whole
    night, and the share of proposers' edits that truly beat what they were made on; ``overstated`` is by how much the
    first node's incumbent claims more than is true.
    """

    budgets: Mapping[float, float]
    experiments: int
    wins: float
    overstated: float


async def night(
    world: World, program: Program, count: int, seed: int, gains: Sequence[float], liars: int = 0, tiers: int = 1
) -> Night:
    """Until the incumbents of half of the honest nodes truly are each of ``gains`` better than genesis. The last
    ``liars`` nodes lie; nodes take turns to be of one of ``tiers``.
    """
    seed_scheduler(seed)
    network = MemoryNetwork(seed, latency, loss=0.01)
    budget = program.spec.budget_seconds
    nodes: list[Node] = []
    ran: set[bytes] = set()
    trainers = [
        Trainer(world, budget, ran, lies=number >= count - liars, tier=number % tiers) for number in range(count)
    ]
    reached: dict[float, float] = {}
    async with trio.open_nursery() as nursery:
        for number, trainer in enumerate(trainers):
            me = identity(seed * 1000 + number + 1)
            parts = Parts(
                program=program, identity=me, journal=Journal(IN_MEMORY), lineage=MemoryLineage(program.commits),
                trainer=trainer, proposer=LocalSearch(), transport=network.transport(me.peer_id), meters=Tally(),
                clock_ms=now_ms,
            )  # fmt: skip
            known = nodes[0].snapshot().addresses[:1] if nodes else ()
            nodes.append(Node(parts, Options(seed=seed, bootstrap=known)))
            await nursery.start(nodes[-1].run)
        begun = trio.current_time()
        honest = nodes[: count - liars]
        while len(reached) < len(gains) and trio.current_time() < begun + MOST_BUDGETS * budget:
            await trio.sleep(LOOK_SECONDS)
            gained = sorted((world.genesis - _loss(world, one) for one in honest), reverse=True)
            half = gained[(len(gained) - 1) // 2]
            for gain in gains:
                if half >= gain:
                    reached.setdefault(gain, (trio.current_time() - begun) / budget)
        found = Night(
            {gain: reached.get(gain, math.inf) for gain in gains}, sum(one.runs for one in trainers),
            _wins(world, nodes[0]), _overstated(world, nodes[0]),
        )  # fmt: skip
        nursery.cancel_scope.cancel()
    return found


def _loss(world: World, one: Node) -> float:
    best = one.ledger.incumbent(one._parts.trainer.device.tier)  # a snapshot has it too, and takes long
    asset = None if best is None else one.asset(best.commit)
    return world.genesis if asset is None else world.loss(asset)


def _overstated(world: World, one: Node) -> float:
    best = one.snapshot().incumbent
    return 0.0 if best is None else _loss(world, one) - best.metric


def _wins(world: World, one: Node) -> float:
    """The share of edits by proposers that are truly better than their parents."""
    better = total = 0
    for commit in one.records.ledger.commits():
        runs = one.records.ledger.runs(commit)
        candidate = one.records.ledger.candidate(commit)
        if candidate is None or candidate.parent is None or not any(run.result.origin is Origin.AGENT for run in runs):
            continue
        new, old = one.asset(commit), one.asset(candidate.parent)
        if new is not None and old is not None:
            total += 1
            better += world.loss(new) < world.loss(old)
    return better / total if total else 0.0


# what is otherwise in some nights; for the whole process


def inline() -> None:
    """Let the proposer search on this thread: a virtual clock would not wait for another."""

    async def run_sync(act: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return act(*arguments)

    agent.local_search.trio = SimpleNamespace(  # type: ignore[assignment]
        to_thread=SimpleNamespace(run_sync=run_sync),
        from_thread=SimpleNamespace(check_cancelled=lambda: None, run_sync=lambda act, *rest: act(*rest)),
    )


def without_recombination() -> None:
    node.choose.RECOMBINE_SHARE = 0.0


def without_rebase() -> None:
    node.choose.moved_wins = lambda view, onto: iter(())


def without_leads() -> None:
    """A peer's win is searched from when it is accepted."""
    protocol.trust.LEAD = math.inf


def without_transplants() -> None:
    node.choose.transplants = lambda view: iter(())


def without_elsewhere() -> None:
    """What other tiers ran is not known to a proposer."""
    node.brief.MAX_ELSEWHERE = 0


def without_islands() -> None:
    node.choose.is_island = lambda view: False


def naive() -> None:
    """Any lower value wins at once, for everybody: nothing is run again, and nothing doubted."""

    def believe(ledger: Any, commit: str, tier: str, me: bytes, broken: frozenset[bytes]) -> protocol.trust.Base | None:
        value = ledger.tally(commit, tier).value
        return None if value is None else protocol.trust.Base(commit, value, own=True, authors=1)

    protocol.trust._belief = believe
    protocol.assignment._replications = lambda *anything: iter(())
    protocol.assignment.confirmations = lambda *anything: iter(())
    protocol.assignment.unchecked = lambda *anything, **more: None
