"""How much sooner N nodes reach a target than one does, on a virtual clock: whole nodes with the real ledger, choice,
rebase, gossip and keyless proposer; a run's outcome is that of a model of recorded real runs of lm-mini, with noise.

    python -m tests.sim.speedup [--nodes 1 2 4 8 16] [--seeds 5] [--gain 0.2] [--without ARM ...] [--models NAME ...]
        [--picture FILE]

The target is a gain in the model's own metric over genesis, fixed before anything is run. A swarm is there when the
incumbents of half of its nodes are, by the model without noise: what a node claims or was lucky with does not count.
Beside it stands what could be had if only the best of N edits counted: a single winner each round, 1-(1-p)^N, where
p is the share of a single node's edits that win. A proposer thinks in no time, as it does ahead of a run.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import trio
from trio._core import _run as trio_run
from trio.testing import MockClock

import agent.local_search
import node.choose
from agent.local_search import LocalSearch
from agent.tunables import read_tunables
from gossip.memory import MemoryNetwork
from node.journal import IN_MEMORY, Journal
from node.node import Node
from node.parts import Options, Parts
from protocol.statements import Origin, Status
from tests.bench.local_search import TABLE, Process, Table, Trees, held_out_error
from tests.sim.fakes import OVERHEAD, MemoryLineage, Tally
from tests.sim.swarm import identity, latency, now_ms
from trainer.device import Device
from trainer.job import Job, Outcome, Progress
from trainer.program import Program, load_program

#: Virtual seconds between two looks at the incumbents.
LOOK_SECONDS = 5.0
#: Budgets after which a swarm is given up.
MOST_BUDGETS = 400
TIER = "simulated"
#: Two-sided 95 % of Student's t, by degrees of freedom; beyond these a normal's.
T = {1: 12.7, 2: 4.3, 3: 3.18, 4: 2.78, 5: 2.57, 7: 2.36, 9: 2.26, 14: 2.14, 19: 2.09}
MODELS: Mapping[str, type[Process] | type[Trees]] = {"process": Process, "trees": Trees}
ARMS = ("recombine", "transplant", "rebase")


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
    """Sleeps for the budget."""

    def __init__(self, world: World, budget_seconds: float) -> None:
        self.device = Device("cpu", "simulated", TIER, "none")
        self._world = world
        self._budget = budget_seconds
        self.runs = 0

    async def run(self, job: Job, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
        rng = random.Random(job.seed)
        seconds = self._budget * (1 + OVERHEAD * rng.random())
        await trio.sleep(seconds)
        self.runs += 1
        return Outcome(
            status=Status.SCORED, metric=self._world.loss(job.asset) + rng.gauss(0.0, self._world.noise), metric_se=0.0,
            holdout=None, cpu_seconds=self._budget, wall_seconds=seconds, overhead_seconds=seconds - self._budget,
            peak_memory=1 << 20, curve=(), failure="",
        )  # fmt: skip


@dataclass(frozen=True)
class Night:
    """``budgets`` until the target was reached, infinite where it was not; experiments of all nodes until then, and
    the share of their edits that truly beat what they were made on.
    """

    budgets: float
    experiments: int
    wins: float


async def night(world: World, program: Program, count: int, seed: int, gain: float) -> Night:
    trio_run._r.seed(seed)
    network = MemoryNetwork(seed, latency, loss=0.01)
    budget = program.spec.budget_seconds
    nodes: list[Node] = []
    trainers = [Trainer(world, budget) for _ in range(count)]
    reached = math.inf
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
        while reached == math.inf and trio.current_time() < begun + MOST_BUDGETS * budget:
            await trio.sleep(LOOK_SECONDS)
            there = sum(_loss(world, one) <= world.genesis - gain for one in nodes)
            if 2 * there >= count:
                reached = (trio.current_time() - begun) / budget
        found = Night(reached, sum(one.runs for one in trainers), _wins(world, nodes[0]))
        nursery.cancel_scope.cancel()
    return found


def _loss(world: World, one: Node) -> float:
    best = one.snapshot().incumbent
    asset = None if best is None else one.asset(best.commit)
    return world.genesis if asset is None else world.loss(asset)


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


def inline() -> None:
    """Let the proposer search on this thread: a virtual clock would not wait for another."""

    async def run_sync(act: Callable[..., Any], *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return act(*arguments)

    agent.local_search.trio = SimpleNamespace(  # type: ignore[assignment]
        to_thread=SimpleNamespace(run_sync=run_sync),
        from_thread=SimpleNamespace(check_cancelled=lambda: None, run_sync=lambda act, *rest: act(*rest)),
    )


def switch_off(arms: Sequence[str]) -> None:
    if "recombine" in arms:
        node.choose.RECOMBINE_SHARE = 0.0
    if "transplant" in arms:
        node.choose.TRANSPLANT_SHARE = 0.0
    if "rebase" in arms:
        node.choose.moved_wins = lambda view, onto: iter(())


def interval(values: Sequence[float]) -> str:
    """Mean and its 95 % interval."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return f"{statistics.median(values):6.1f} (median)"
    half = T.get(len(values) - 1, 1.96) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):6.1f} ± {half:4.1f}"


def draw(path: Path, lines: Mapping[str, Sequence[tuple[int, float]]], title: str) -> None:
    """Times sooner over the number of nodes, both by factors of two, beside as many times sooner as there are nodes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    counts = sorted({count for line in lines.values() for count, _ in line})
    axes.plot(counts, counts, color="0.7", linestyle="--", label="N times sooner")
    for name, line in lines.items():
        axes.plot(*zip(*line, strict=True), marker="o", label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set(xlabel="nodes", ylabel="times sooner than one node", title=title)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main(
    counts: Sequence[int], seeds: int, gain: float, without: Sequence[str], models: Sequence[str], picture: Path | None
) -> None:
    inline()
    switch_off(without)
    table, program = Table(TABLE), load_program("lm-mini")
    print(
        f"{len(table.metrics)} recorded runs; noise {table.noise:.4f}; target: {gain:g} below genesis, {seeds} seeds;"
        f" without {', '.join(without) or 'nothing'}"
    )
    lines: dict[str, list[tuple[int, float]]] = {}
    for kind in map(MODELS.__getitem__, models):
        world = World(kind, table)
        print(f"\n{kind.name}, held-out error {held_out_error(kind, table):.4f}, genesis {world.genesis:.4f}")
        print("nodes  budgets to target   sooner   experiments  true wins  one winner a round  CPU")
        alone: list[float] = []
        chance = 0.0
        for count in counts:
            begun = time.process_time()
            nights = [
                trio.run(night, world, program, count, seed, gain, clock=MockClock(autojump_threshold=0))
                for seed in range(1, seeds + 1)
            ]
            budgets = [one.budgets for one in nights]
            alone = alone or budgets
            chance = chance or statistics.fmean(one.wins for one in nights)
            sooner = statistics.fmean(alone) / statistics.fmean(budgets)
            experiments = statistics.fmean(one.experiments for one in nights)
            wins = statistics.fmean(one.wins for one in nights)
            lines.setdefault(f"outcomes of a {kind.name} of real runs", []).append((count, sooner))
            winner = (1 - (1 - chance) ** count) / chance
            print(
                f"{count:5}  {interval(budgets):>17}   {sooner:5.1f}x   {experiments:10.0f}   {wins:7.0%}"
                f"   {winner:10.1f}x        {time.process_time() - begun:4.0f} s",
                flush=True,
            )
        if picture is not None:
            draw(picture, lines, f"lm-mini, {gain:g} bits per byte below genesis, {seeds} nights each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--gain", type=float, default=0.2)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--picture", type=Path, help="a PNG file to write")
    parser.add_argument("--without", nargs="+", choices=ARMS, default=[])
    given = parser.parse_args()
    main(given.nodes, given.seeds, given.gain, given.without, given.models, given.picture)
