"""A node that lies, as a process: everything is real but the trainer, who makes the figures up.

    python liar.py start --lie claim|replicate|puppet --join ADDR --home DIR --listen ADDR [--http ...]

claim      its own edits, which are bad ones, are said to be far better than possible
replicate  its own edits are told truly; what others found is said to be hopeless
puppet     like claim, and any other puppet says the same of these edits
"""

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import trio

from agent.proposer import Context, Edit
from gossip.libp2p_transport import open_transport
from node.home import Home
from node.journal import Journal
from node.lineage import GitLineage
from node.metrics import Metrics
from node.node import Node
from node.parts import Options, Parts
from protocol.statements import Status
from tests.hostile.truth import NOISE
from tests.programs.variants import NUMBERS
from tests.sim.fakes import true_loss, write_numbers
from trainer.device import Device, detect
from trainer.job import Job, Outcome, Progress
from trainer.program import load_program

#: The best that is possible is 0.
TOO_GOOD = -5.0
HOPELESS = 1e9
#: As long as an honest run takes, so that liars are not faster.
RUN_SECONDS = 0.5
PROGRAM = load_program(NUMBERS)


class Worsener:
    """Proposes edits that are bad, each another one."""

    name = "worsener"

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.proposed: set[bytes] = set()

    async def propose(self, context: Context) -> Edit | None:
        values = json.loads(context.asset)
        values["mode"]["value"] = "worse"
        values["y"]["value"] = round(self._rng.uniform(0.6, 1.0), 6)
        asset = write_numbers(values)
        self.proposed.add(asset)
        return Edit(asset, "a great improvement")


class Liar:
    """In place of a trainer."""

    def __init__(self, lie: str, proposer: Worsener, device: Device) -> None:
        self.device = device
        self._lie = lie
        self._proposer = proposer
        self._rng = random.Random(0)

    async def run(self, job: Job, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
        await trio.sleep(RUN_SECONDS)
        return Outcome(Status.SCORED, metric=self._metric(job.asset), metric_se=0.0, cpu_seconds=0.1, wall_seconds=0.1)

    def _metric(self, asset: bytes) -> float:
        true = true_loss(asset) + self._rng.gauss(0.0, NOISE)
        if asset == PROGRAM.asset:
            return true
        if self._lie == "replicate":
            return true if asset in self._proposer.proposed else HOPELESS
        ours = asset in self._proposer.proposed
        if self._lie == "puppet":
            ours = json.loads(asset)["mode"]["value"] == "worse"
        return TOO_GOOD + self._rng.gauss(0.0, NOISE) if ours else true


async def main(options: argparse.Namespace) -> None:
    home = Home(options.home)
    home.create()
    identity, proposer = home.identity(), Worsener(os.getpid())
    with (
        home.locked(),
        closing(Journal(home.journal)) as journal,
        closing(GitLineage(home.lineage, PROGRAM.commits)) as lineage,
    ):
        async with open_transport(identity, [options.listen]) as transport, trio.open_nursery() as nursery:
            parts = Parts(
                program=PROGRAM, identity=identity, journal=journal, lineage=lineage,
                trainer=Liar(options.lie, proposer, detect("cpu")), proposer=proposer, transport=transport,
                meters=Metrics(), clock_ms=lambda: time.time_ns() // 1_000_000,
            )  # fmt: skip
            node = Node(parts, Options(bootstrap=(options.join,), version="liar"))
            await nursery.start(node.run)
            said = {"pid": os.getpid(), "peer_id": identity.peer_id, "addresses": list(transport.addresses())}
            home.announce(said)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["start"])
    parser.add_argument("--lie", choices=["claim", "replicate", "puppet"], required=True)
    parser.add_argument("--join", required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--http", help="not served")
    trio.run(main, parser.parse_args())
