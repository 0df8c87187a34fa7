"""A swarm of whole nodes in one process, on trio's virtual clock: real ledger, journal, loop and gossip; only
training, the proposer, the wire and the disk are the test's own.

    python -m tests.sim.swarm [--nodes 50] [--experiments 6] [--loss 0.1] [--seed 1]
"""

import argparse
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio
from trio._core import _run as trio_run
from trio.testing import MockClock

from gossip.memory import MemoryNetwork, internet
from node.journal import IN_MEMORY, Journal
from node.node import Node
from node.parts import Options, Parts
from protocol.identity import Identity
from tests.sim.fakes import FakeProposer, FakeTrainer, MemoryLineage, Tally, true_loss
from trainer.program import Program, load_program

NUMBERS = Path(__file__).parents[1] / "programs" / "numbers"
#: As long as the minute between two exchanges of records, so that these matter.
BUDGET_SECONDS = 60.0
#: The clock of the simulated world begins here, in milliseconds since 1970.
EPOCH_MS = 1_800_000_000_000
#: One-way seconds to choose from: drawing them anew is half of a large simulation's time.
DRAWN = [math.ceil(100 * internet(random.Random(number))) / 100 for number in range(4096)]
#: Virtual seconds within which a swarm that has stopped working must agree.
PATIENCE = 3600


@dataclass
class Member:
    """One simulated node and what may be looked at."""

    node: Node
    lineage: MemoryLineage
    trainer: FakeTrainer
    tally: Tally

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self.node.ids())

    @property
    def incumbent(self) -> str:
        best = self.node.snapshot().incumbent
        return "" if best is None else best.commit


def latency(rng: random.Random) -> float:
    """As between strangers, in steps of 10 ms: what comes at one moment costs the scheduler one turn."""
    return rng.choice(DRAWN)


def now_ms() -> int:
    return EPOCH_MS + round(trio.current_time() * 1000)


def seed_scheduler(seed: int) -> None:
    """Tasks that wake together run in an order that ``seed`` alone decides, not where in memory they lie."""
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)


def identity(number: int) -> Identity:
    return Identity(number.to_bytes(32, "big"))


def member(
    network: MemoryNetwork,
    program: Program,
    number: int,
    seed: int,
    experiments: int,
    bootstrap: tuple[str, ...],
) -> Member:
    me = identity(number + 1)
    lineage = MemoryLineage(program.commits)
    trainer = FakeTrainer(BUDGET_SECONDS, program.spec.noise)
    tally = Tally()
    parts = Parts(
        program=program, identity=me, journal=Journal(IN_MEMORY), lineage=lineage, trainer=trainer,
        proposer=FakeProposer(seed * 1000 + number), transport=network.transport(me.peer_id), meters=tally,
        clock_ms=now_ms,
    )  # fmt: skip
    options = Options(seed=seed * 1000 + number, max_experiments=experiments, bootstrap=bootstrap)
    return Member(Node(parts, options), lineage, trainer, tally)


@dataclass(frozen=True)
class Report:
    """How a simulated swarm ended. Times are virtual seconds."""

    nodes: int
    records: int
    experiments: int
    worked: float
    converged: float
    ledgers: int
    incumbents: frozenset[str]
    true_gain: float
    claimed: float
    rebases: int
    messages: int
    cpu_seconds: float


async def simulate(
    nodes: int = 50, experiments: int = 6, loss: float = 0.1, seed: int = 1,
    partition: tuple[float, float] | None = None,
) -> Report:  # fmt: skip
    """Run the swarm until every node has made its experiments and all agree; ``partition`` splits it in two
    halves from the one virtual second to the other.
    """
    begun, start = time.process_time(), trio.current_time()
    seed_scheduler(seed)
    network = MemoryNetwork(seed=seed, latency=latency, loss=loss)
    program = load_program(NUMBERS)
    async with trio.open_nursery() as nursery:
        members: list[Member] = []
        for number in range(nodes):
            known = members[0].node.snapshot().addresses if members else ()
            members.append(member(network, program, number, seed, experiments, known[:1]))
            await nursery.start(members[-1].node.run)
        if partition is not None:
            nursery.start_soon(_split, network, [identity(n + 1).peer_id for n in range(nodes)], *partition)
        for one in members:
            await one.node.finished.wait()
        worked = trio.current_time() - start
        await _until(lambda: _agree(members))
        report = _report(members, network, worked, trio.current_time() - start, begun)
        nursery.cancel_scope.cancel()
    return report


async def _split(network: MemoryNetwork, peers: list[str], start: float, stop: float) -> None:
    await trio.sleep(start)
    network.partition([set(peers[::2]), set(peers[1::2])])
    await trio.sleep(stop - start)
    network.heal()


async def _until(condition: Callable[[], bool]) -> None:
    """Look every virtual second, for as long as our patience lasts."""
    for _ in range(PATIENCE):
        if condition():
            return
        await trio.sleep(1.0)


def _agree(members: list[Member]) -> bool:
    return len({len(one.node.records.ledger) for one in members}) == 1 and len({m.ids for m in members}) == 1


def _report(
    members: list[Member], network: MemoryNetwork, worked: float, agreed: float, begun: float
) -> Report:
    first = members[0]
    best = first.node.snapshot().incumbent
    assert best is not None
    asset = first.node.asset(best.commit)
    genesis = first.node.asset(first.node.records.ledger.rules.genesis)
    assert asset is not None
    assert genesis is not None
    return Report(
        nodes=len(members),
        records=len(first.ids),
        experiments=sum(one.trainer.runs for one in members),
        worked=worked,
        converged=agreed - worked,
        ledgers=len({one.ids for one in members}),
        incumbents=frozenset(one.incumbent for one in members),
        true_gain=true_loss(genesis) - true_loss(asset),
        claimed=true_loss(genesis) - best.metric,
        rebases=sum(outcome == "merged" for one in members for outcome in one.tally.rebases),
        messages=network.messages,
        cpu_seconds=time.process_time() - begun,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--experiments", type=int, default=6)
    parser.add_argument("--loss", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    said = parser.parse_args()

    async def run() -> Report:
        return await simulate(said.nodes, said.experiments, said.loss, said.seed, partition=PARTITION)

    print(trio.run(run, clock=MockClock(autojump_threshold=0)))


#: In the middle of the work, for two and a half experiments.
PARTITION = (2.2 * BUDGET_SECONDS, 4.7 * BUDGET_SECONDS)

if __name__ == "__main__":
    main()
