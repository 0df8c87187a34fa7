"""Real nodes beside simulated ones: what is to be believed of the simulator.

    python -m tests.bench.calibrate [--nodes 8] [--experiments 12] [--seconds 5] [--target 0.05] [--seeds 5]

A run of the numbers program sleeps here, so that many nodes fit on few cores. The simulated swarm has the same
program, rules, loop and search; its nodes join when the real ones did and take as long for an experiment. The
virtual clock does not see what thinking costs.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import trio
from trio.testing import MockClock

from agent.evidence import evidence
from agent.local_search import ideas
from agent.proposer import Context, Edit
from agent.space import Space, changes, describe
from agent.tunables import read_tunables, write_tunables
from gossip.memory import MemoryNetwork
from node.archive import open_archive
from node.home import Home
from node.journal import IN_MEMORY, Journal
from node.node import Node
from node.parts import Options, Parts
from protocol.ledger import Ledger
from protocol.records import Record
from tests.e2e.kit import Json, Place, Running, place
from tests.programs.variants import write_numbers
from tests.sim.fakes import OVERHEAD, FakeTrainer, MemoryLineage, Tally, true_loss
from tests.sim.swarm import identity, now_ms, seed_scheduler
from tests.waiting import until
from trainer.program import Program, load_program

#: How often all nodes are asked for their incumbent: no finer are the times of its spreading.
LOOK_SECONDS = 0.25
#: As a message takes on loopback (tests/bench/gossip.py).
LATENCY_SECONDS = 0.02
#: Records that are not gossiped travel within some two minutes.
AGREE_SECONDS = 300.0
#: Share of the budget that a run sleeps.
BUSY = 0.9
SLEEPS = "def train(run):\n    __import__('time').sleep({seconds})\n"


@dataclass
class Seen:
    """When each node first showed each incumbent; seconds since the first node was there."""

    nodes: int
    times: dict[str, dict[int, float]] = field(default_factory=dict)

    def look(self, now: float, incumbents: Sequence[str]) -> None:
        for node, commit in enumerate(incumbents):
            self.times.setdefault(commit, {}).setdefault(node, now)

    def spreads(self) -> list[float]:
        """How long those that all nodes showed took from the first node to the last."""
        every = (list(times.values()) for commit, times in self.times.items() if commit)
        return [max(times) - min(times) for times in every if len(times) == self.nodes]


@dataclass(frozen=True)
class Figures:
    """What a swarm came to. Seconds since the first node was there; ``cycle`` is an experiment's, its choosing
    and telling included; ``agreed`` is how long after the last experiment all held the same records.
    """

    origins: Counter[str]
    cycle: float
    to_target: float | None
    worked: float
    agreed: float
    spreads: list[float]
    ledgers: int
    best: float

    def rows(self) -> Iterator[tuple[str, float | None]]:
        yield "experiments", self.origins.total()
        for origin in ("baseline", "agent", "rebase", "replication", "confirmation"):
            yield f"  {origin}", self.origins[origin]
        yield "an experiment's cycle, s", self.cycle
        yield "target reached after, s", self.to_target
        yield "all experiments done after, s", self.worked
        yield "same records everywhere, s later", self.agreed
        yield "ledgers", self.ledgers
        yield "incumbents that all showed", len(self.spreads)
        yield "  from first to last node, median s", statistics.median(self.spreads) if self.spreads else None
        yield "  the slowest, s", max(self.spreads, default=None)
        yield "true metric of the best", self.best


def figures(
    program: Program, ledgers: Sequence[Sequence[Record]], start_ms: float, target: float, agreed: float, seen: Seen
) -> Figures:
    """From what every node holds at the end."""
    records = sorted((record for record in ledgers[0] if record.result), key=_created)
    results = [record.result for record in records if record.result]
    ledger, best, to_target = Ledger(program.rules), 0.0, None
    worth = {result.commit: _worth(result.tunables) for result in results}
    for record in records:
        ledger.add(record)
        incumbent = ledger.incumbent(results[0].tier)
        best = worth[incumbent.commit] if incumbent else best
        if to_target is None and incumbent and best <= target:
            to_target = (_created(record) - start_ms) / 1000
    return Figures(
        origins=Counter(result.origin.value for result in results), cycle=_cycle(records), to_target=to_target,
        worked=(_created(records[-1]) - start_ms) / 1000, agreed=agreed, spreads=seen.spreads(),
        ledgers=len({frozenset(record.id for record in held) for held in ledgers}), best=best,
    )  # fmt: skip


def _created(record: Record) -> int:
    assert record.result is not None
    return record.result.created_ms


def _cycle(records: Sequence[Record]) -> float:
    """The median time between two experiments of one node, in seconds."""
    authors = {record.author for record in records}
    own = ([_created(record) for record in records if record.author == author] for author in authors)
    return statistics.median((after - before) / 1000 for times in own for before, after in pairwise(times))


def _worth(tunables: object) -> float:
    assert isinstance(tunables, dict)
    return true_loss(json.dumps({name: {"value": value} for name, value in tunables.items()}).encode())


# real


def real(folder: Path, source: Path, nodes: int, experiments: int, target: float) -> tuple[Figures, list[float], float]:
    """The figures of real processes; when each was there, in seconds; CPU seconds of all."""
    before = os.times()
    with place(folder) as swarm:
        running, offsets, start_ms = _start(swarm, source, nodes, experiments)
        seen = Seen(nodes)
        done = _watch(running, seen, start_ms)
        for node in running:
            node.stop()
    program, ledgers = load_program(str(source)), []
    for node in running:
        with open_archive(Home(node.home)) as archive:
            ledgers.append(list(archive.records.ledger.records()))
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return figures(program, ledgers, start_ms, target, done, seen), offsets, cpu


def _start(swarm: Place, source: Path, nodes: int, experiments: int) -> tuple[list[Running], list[float], float]:
    """Start them one after the other. Their number is not the limit of a machine's cores: most sleep."""
    running: list[Running] = []
    times: list[float] = []
    for number in range(nodes):
        join = ("--join", running[0].address) if running else ()
        options = ("--program", str(source), "--max-experiments", str(experiments), "--seed", str(number), *join)
        running.append(swarm.start(f"node{number}", *options))
        trio.run(running[-1].up)
        times.append(time.time())
    return running, [at - times[0] for at in times], 1000 * times[0]


def _watch(running: Sequence[Running], seen: Seen, start_ms: float) -> float:
    """Look until all have done their experiments and hold each other's; seconds between the two."""
    ended = None
    while True:
        now = time.time()
        statuses = [node.status() for node in running]
        seen.look(now - start_ms / 1000, [(status["incumbent"] or {}).get("commit", "") for status in statuses])
        if ended is None and all(status["stopped"] for status in statuses):
            ended = now
        if ended is not None and (_agree(statuses) or now - ended > AGREE_SECONDS):
            return now - ended
        time.sleep(max(0.0, LOOK_SECONDS - (time.time() - now)))


def _agree(statuses: Sequence[Json]) -> bool:
    made = sum(status["experiments"]["own"] for status in statuses)
    return all(status["experiments"]["total"] == made for status in statuses)


# simulated


class Search:
    """``agent.LocalSearch`` in no time: a worker thread's would pass while the virtual clock jumps ahead."""

    name = "local"

    async def propose(self, context: Context) -> Edit | None:
        space = Space(read_tunables(context.asset, context.asset_name))
        for point in ideas(space, evidence(space, context, []), random.Random(context.seed)):
            asset = write_tunables(context.asset, context.asset_name, point)
            if changes(space.base, point) and not context.taken(asset):
                return Edit(asset, describe(space.base, point))
        return None


async def simulated(
    program: Program, offsets: Sequence[float], experiments: int, target: float, cycle: float, seed: int
) -> Figures:
    """The figures of as many simulated nodes that join at ``offsets``."""
    seed_scheduler(seed)
    network = MemoryNetwork(seed=seed, latency=lambda rng: LATENCY_SECONDS)
    start, start_ms, nodes, seen = trio.current_time(), now_ms(), [], Seen(len(offsets))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_look, nodes, seen, start)
        for number, offset in enumerate(offsets):
            await trio.sleep_until(start + offset)
            known = nodes[0].snapshot().addresses if nodes else ()
            nodes.append(_node(program, network, number, 100 * seed + number, experiments, cycle, known[:1]))
            await nursery.start(nodes[-1].run)
        for node in nodes:
            await node.finished.wait()
        ended = trio.current_time()
        await until(lambda: len({frozenset(node.ids()) for node in nodes}) == 1, AGREE_SECONDS)
        agreed = trio.current_time() - ended
        nursery.cancel_scope.cancel()
    ledgers = [list(node.records.ledger.records()) for node in nodes]
    return figures(program, ledgers, start_ms, target, agreed, seen)


def _node(
    program: Program, network: MemoryNetwork, number: int, seed: int, experiments: int, cycle: float,
    known: tuple[str, ...],
) -> Node:  # fmt: skip
    me = identity(number + 1)
    parts = Parts(
        program=program, identity=me, journal=Journal(IN_MEMORY), lineage=MemoryLineage(program.commits),
        trainer=FakeTrainer(cycle / (1 + OVERHEAD / 2), program.spec.noise), proposer=Search(),
        transport=network.transport(me.peer_id), meters=Tally(), clock_ms=now_ms,
    )  # fmt: skip
    return Node(parts, Options(seed=seed, max_experiments=experiments, bootstrap=known))


async def _look(nodes: Sequence[Node], seen: Seen, start: float) -> None:
    while True:
        if len(nodes) == seen.nodes:
            bests = [node.snapshot().incumbent for node in nodes]
            seen.look(trio.current_time() - start, [best.commit if best else "" for best in bests])
        await trio.sleep(LOOK_SECONDS)


# side by side


def main(nodes: int, experiments: int, seconds: float, target: float, seeds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="waggle-calibrate-") as scratch:
        source = slow_numbers(Path(scratch) / "program", seconds)
        load = os.getloadavg()[0]
        truth, offsets, cpu = real(Path(scratch), source, nodes, experiments, target)
        program = load_program(str(source))
    print(f"{nodes} processes there after {offsets[-1]:.1f} s; {cpu:.0f} s of CPU; load before {load:.1f}")

    async def run(seed: int) -> Figures:
        return await simulated(program, offsets, experiments, target, truth.cycle, seed)

    played = [trio.run(run, seed, clock=MockClock(autojump_threshold=0)) for seed in range(1, seeds + 1)]
    columns = [dict(one.rows()) for one in played]
    print(f"{'':38}{'real':>9}   simulated: mean (least to most of {seeds} seeds)")
    for name, value in truth.rows():
        print(f"{name:38}{_number(value):>9}   {_spread([column[name] for column in columns])}")


def slow_numbers(folder: Path, seconds: float) -> Path:
    """The numbers program with runs that last ``BUSY`` of a budget of so many wall seconds."""
    write_numbers(folder, name="slow-numbers", seconds=seconds)
    manifest, runner = folder / "program.md", folder / "runner.py"
    manifest.write_text(manifest.read_text().replace('clock = "auto"', 'clock = "wall"'))
    runner.write_text(runner.read_text().replace("def train(run):\n", SLEEPS.format(seconds=BUSY * seconds)))
    return folder


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.4g}"


def _spread(values: Sequence[float | None]) -> str:
    told = [value for value in values if value is not None]
    if not told:
        return "never"
    missing = f", {len(values) - len(told)} never" if len(told) < len(values) else ""
    return f"{_number(statistics.mean(told)):>8} ({_number(min(told))} to {_number(max(told))}{missing})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--experiments", type=int, default=12, help="of each node")
    parser.add_argument("--seconds", type=float, default=5.0, help="the budget of one")
    parser.add_argument("--target", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=5)
    main(**vars(parser.parse_args()))
