"""What a simulated node has instead of the parts that take real time or a disk. Nothing of it is shipped.

The program is the tests' own ``numbers``: its loss is a known function, and a run adds noise that its seed
draws. Run under trio's MockClock, training takes virtual seconds.
"""

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence

import trio

from agent.proposer import Context, Edit
from gossip.meter import Unmetered
from node.lineage import Step
from protocol.commits import CommitScheme
from protocol.statements import Origin, Status
from trainer.device import Device
from trainer.job import Job, Outcome, Progress

#: Where the loss of ``numbers`` is least (tests/programs/numbers/evaluator.py).
AT = {"x": 0.7, "y": 0.2, "z": 0.03}
WORTH = {"plain": 0.1, "better": 0.0, "worse": 0.3}
#: How much longer than the budget a run takes at most: start-up and examination.
OVERHEAD = 0.1
STEP = 0.15


def true_loss(asset: bytes) -> float:
    """What infinitely many runs of this asset would average to."""
    values = {name: entry["value"] for name, entry in json.loads(asset).items()}
    far = [(values["x"] - AT["x"]) ** 2, (values["y"] - AT["y"]) ** 2]
    far.append((math.log10(values["z"] / AT["z"]) / 3) ** 2)
    return WORTH[values["mode"]] + sum(far)


class FakeTrainer:
    """Sleeps for the budget, and measures the true loss with the noise that the run's seed draws."""

    def __init__(self, budget_seconds: float, noise: float, tier: str = "simulated") -> None:
        self.device = Device("cpu", "simulated", tier, "none")
        self._budget = budget_seconds
        self._noise = noise
        self.runs = 0

    async def run(self, job: Job, on_progress: Callable[[Progress], None] | None = None) -> Outcome:
        rng = random.Random(job.seed)
        seconds = self._budget * (1 + OVERHEAD * rng.random())
        if on_progress is not None:
            on_progress(Progress("training", 0.0, None, 0.0))
        await trio.sleep(seconds)
        self.runs += 1
        return Outcome(
            status=Status.SCORED, metric=true_loss(job.asset) + rng.gauss(0.0, self._noise), metric_se=0.0,
            holdout=None, cpu_seconds=self._budget, wall_seconds=seconds,
            overhead_seconds=seconds - self._budget, peak_memory=1 << 20, curve=(), failure="",
        )  # fmt: skip


class FakeProposer:
    """Moves one number of the base, at random."""

    name = "fake"

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    async def propose(self, context: Context) -> Edit | None:
        values = json.loads(context.asset)
        name = self._rng.choice(sorted(values))
        entry = values[name]
        if "choices" in entry:
            entry["value"] = self._rng.choice(entry["choices"])
        else:
            moved = entry["value"] + self._rng.gauss(0.0, STEP * (entry["high"] - entry["low"]))
            entry["value"] = round(min(max(moved, entry["low"]), entry["high"]), 6)
        asset = write_numbers(values)
        return None if context.taken(asset) else Edit(asset, f"{name} = {entry['value']}")


def write_numbers(values: Mapping[str, Mapping[str, object]]) -> bytes:
    """As the program's author wrote them: a line each, so that edits of different numbers merge."""
    rows = [f'  "{name}": {json.dumps(entry)}' for name, entry in values.items()]
    return ("{\n" + ",\n".join(rows) + "\n}\n").encode()


class MemoryLineage:
    """Assets by commit, and a merge line by line for assets that keep their number of lines."""

    def __init__(self, scheme: CommitScheme) -> None:
        self._assets = {scheme.genesis: scheme.files[scheme.asset]}
        self.best = scheme.genesis
        self.notes: dict[str, str] = {}

    def __contains__(self, commit: str) -> bool:
        return commit in self._assets

    def asset(self, commit: str) -> bytes | None:
        return self._assets.get(commit)

    async def write(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._assets[step.commit] = step.asset

    async def merge(self, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        rows = zip(base.split(b"\n"), ours.split(b"\n"), theirs.split(b"\n"), strict=True)
        merged = [_merge_row(*row) for row in rows]
        return None if None in merged else b"\n".join(row for row in merged if row is not None)

    async def publish(self, best: str, notes: Mapping[str, str]) -> None:
        self.best = best
        self.notes |= notes


def _merge_row(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    if ours in (base, theirs):
        return theirs
    return ours if theirs == base else None


class Tally(Unmetered):
    """Counts what ``node.metrics`` would show."""

    def __init__(self) -> None:
        self.experiments = 0
        self.rejections: list[str] = []
        self.rebases: list[str] = []
        self.replications = 0
        self.duplicates: list[str] = []
        self.ideas: list[str] = []
        self.thoughts: list[str] = []

    def experiment(self, origin: Origin, outcome: Outcome) -> None:
        self.experiments += 1

    def rejected(self, reason: str) -> None:
        self.rejections.append(reason)

    def rebase(self, outcome: str) -> None:
        self.rebases.append(outcome)

    def replication(self) -> None:
        self.replications += 1

    def duplicate(self, kind: str) -> None:
        self.duplicates.append(kind)

    def idea(self, outcome: str) -> None:
        self.ideas.append(outcome)

    def tokens(self, kind: str, tokens: int) -> None: ...

    def thought(self, seconds: float, outcome: str) -> None:
        self.thoughts.append(outcome)

    def idle(self, cause: str, seconds: float) -> None: ...
