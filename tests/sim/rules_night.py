"""Nights of 500 experiments under the ledger's real rules, with true effects known: no training, no network.

    python -m tests.sim.rules_night [--nights 100] [--nodes 1] [--liars 0]

The model. A run of a candidate measures its true loss plus N(0, σ), σ = 1. A proposal edits the best base
that its node believes; with chance 0.15 it gains Exp(scale), otherwise it loses Exp(3 σ). DESIGN's table does
not say how its proposals were drawn: this model was chosen since the naive rule makes of it about what it
makes there (6.6, 36, 113 and 427 σ at scales 0.5, 1, 2 and 6 σ). At scale 0 every candidate equals genesis:
an A/A night.

The naive rule is the well-known loop: run an edit of the best once, and keep it if its metric is lower.

All nodes share one ledger, that is, gossip is instant; a round is one budget, in which every node makes one
run. Liars claim a gain of 50 σ for their own edits and 10^9 for everybody else's, whatever they measured.
"""

import argparse
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from protocol.assignment import duties
from protocol.commits import CommitScheme, blob_id
from protocol.ledger import Ledger
from protocol.records import Kind, Record
from protocol.rules import Rules
from protocol.statements import Claim, Origin, Result, Status, run_seed
from protocol.trust import headline, usable_bases

EXPERIMENTS = 500
BUDGET_MS = 300_000
SCALES = (0.0, 0.5, 1.0, 2.0, 6.0)
GOOD_SHARE = 0.15
LOSS_SCALE = 3.0
TIER = "simulated"
SCHEME = CommitScheme({"train.py": b"", "program.md": b""}, asset="train.py")

Draw = Callable[[random.Random], float]


def gains(scale: float) -> Draw:
    """How much a proposal truly gains over its base, in σ."""

    def draw(rng: random.Random) -> float:
        if not scale:
            return 0.0
        return rng.expovariate(1 / scale) if rng.random() < GOOD_SHARE else -rng.expovariate(1 / LOSS_SCALE)

    return draw


@dataclass(frozen=True)
class Outcome:
    """Progress since genesis at a night's end, in σ: what is true of the accepted best, what is claimed of
    it, and what is true of the proven best.
    """

    true: float
    claimed: float
    proven: float
    steps_proven: int = 0
    headline: float = 0.0


def naive_night(scale: float, seed: int) -> Outcome:
    rng, draw = random.Random(f"naive {scale} {seed}"), gains(scale)
    true, start = 0.0, rng.gauss(0, 1)
    bar = start
    for _ in range(EXPERIMENTS - 1):
        candidate = true - draw(rng)
        measured = candidate + rng.gauss(0, 1)
        if measured < bar:
            true, bar = candidate, measured
    return Outcome(-true, -bar, 0.0)


@dataclass
class Night:
    """One night of a swarm of ``nodes``, the last ``liars`` of which lie."""

    scale: float
    seed: int
    nodes: int = 1
    liars: int = 0
    noise: float = 1.0  # σ₀ as program.md states it; the true σ is 1
    ledger: Ledger = field(init=False)
    true: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"night {self.scale} {self.seed} {self.nodes} {self.liars}")
        self.ledger = Ledger(Rules(SCHEME, noise=self.noise))
        self.true = {SCHEME.genesis: 0.0}
        self.draw = gains(self.scale)
        self.peers = [self.rng.randbytes(32) for _ in range(self.nodes)]
        self.honest = self.peers[: self.nodes - self.liars]
        self.now_ms = 0
        self.origins: dict[Origin, int] = {}

    def run(self) -> Outcome:
        for _ in range(EXPERIMENTS // self.nodes):
            claims: list[tuple[bytes, Claim]] = []
            results = [self._choose(me, claims) for me in self.peers]
            self.now_ms += BUDGET_MS
            for record in results:
                self.ledger.add(record)
        return self._outcome()

    def _choose(self, me: bytes, claims: list[tuple[bytes, Claim]]) -> Record:
        """What the node does next: its first duty, or an edit of the best base it believes."""
        mine = duties(
            self.ledger, me=me, tier=TIER, live=self.peers, claims=claims, now_ms=self.now_ms,
            since_ms=0, budget_ms=BUDGET_MS,
        )  # fmt: skip
        bases = usable_bases(self.ledger, me=me, tier=TIER, now_ms=self.now_ms, budget_ms=BUDGET_MS)
        if mine:
            duty = mine[0]
            candidate = self.ledger.candidate(duty.commit)
            parent = candidate.parent if candidate else None
            blob = candidate.blob if candidate else SCHEME.genesis_blob
            commit, origin, index = duty.commit, duty.origin, duty.index
        elif not bases:
            commit, parent, blob = SCHEME.genesis, None, SCHEME.genesis_blob
            origin = Origin.BASELINE
            index = self.ledger.next_index(commit, TIER, me, origin)
        else:
            parent, blob = bases[0].commit, blob_id(b"%d" % len(self.true))
            commit, origin, index = SCHEME.candidate(parent, blob), Origin.AGENT, 0
            self.true[commit] = self.true[parent] - self.draw(self.rng)
        claims.append((me, Claim(self.now_ms, commit, origin, TIER, {}, "", BUDGET_MS / 1000)))
        self.origins[origin] = self.origins.get(origin, 0) + 1
        return self._record(me, commit, parent, blob, origin, index)

    def _record(
        self, me: bytes, commit: str, parent: str | None, blob: str, origin: Origin, index: int
    ) -> Record:
        metric = self.true[commit] + self.rng.gauss(0, 1)
        if me not in self.honest:
            metric = metric - 50.0 if origin is Origin.AGENT else 1e9
        result = Result(
            created_ms=self.now_ms + BUDGET_MS, sequence=0, commit=commit, parent=parent, blob=blob, diff=b"",
            lines_added=0, lines_removed=0, origin=origin, index=index,
            seed=run_seed(commit, me, origin, index), status=Status.SCORED, metric=metric, metric_se=None,
            holdout=None, cpu_seconds=0.0, wall_seconds=0.0, peak_memory=0, tier=TIER, device="", software="",
            curve=(), tunables={}, summary="", hypothesis="", failure="",
        )  # fmt: skip
        # the ledger never looks at body or signature; they only have to make the id unique
        return Record(Kind.RESULT, b"s" * 32, me, b"%d" % len(self.ledger) + me, b"", statement=result)

    def _outcome(self) -> Outcome:
        genesis = self.ledger.value(SCHEME.genesis, TIER)
        best, proven = self.ledger.incumbent(TIER), self.ledger.proven_best(TIER)
        shown = headline(self.ledger, me=self.honest[0])
        if best is None or best.value is None or genesis is None:
            return Outcome(0.0, 0.0, 0.0)
        return Outcome(
            true=-self.true[best.commit],
            claimed=genesis - best.value,
            proven=-self.true[proven.commit] if proven else 0.0,
            steps_proven=len(self.ledger.proven(TIER)) - 1,
            headline=-self.true[shown.commit] if shown else 0.0,
        )


@dataclass(frozen=True)
class Summary:
    """Means over nights; ``error`` is the standard error of ``true``."""

    true: float
    error: float
    claimed: float
    proven: float
    proving: float
    headline: float


def summarise(outcomes: Sequence[Outcome]) -> Summary:
    trues = [outcome.true for outcome in outcomes]
    return Summary(
        true=statistics.fmean(trues),
        error=statistics.stdev(trues) / math.sqrt(len(trues)),
        claimed=statistics.fmean(outcome.claimed for outcome in outcomes),
        proven=statistics.fmean(outcome.proven for outcome in outcomes),
        proving=statistics.fmean(outcome.steps_proven > 0 for outcome in outcomes),
        headline=statistics.fmean(outcome.headline for outcome in outcomes),
    )


def compare(scale: float, nights: int, nodes: int = 1, liars: int = 0) -> tuple[Summary, Summary]:
    """The naive rule's nights (one node) and ours."""
    naive = [naive_night(scale, seed) for seed in range(nights * 5)]
    ours = [Night(scale, seed, nodes, liars).run() for seed in range(nights)]
    return summarise(naive), summarise(ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nights", type=int, default=100)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--liars", type=int, default=0)
    parser.add_argument("--scales", type=float, nargs="*", default=SCALES)
    args = parser.parse_args()
    print(f"{args.nights} nights of {EXPERIMENTS} experiments, {args.nodes} nodes, {args.liars} liars; in σ")
    print("gains  naive true/claimed   ours true ± se/claimed   ratio  proven  share  proving  headline")
    for scale in args.scales:
        naive, ours = compare(scale, args.nights, args.nodes, args.liars)
        ratio = f"{ours.true / naive.true:5.2f}" if scale else "    -"
        held = f"{ours.proven / ours.true:6.0%}" if scale else "     -"
        print(
            f"{scale:5}  {naive.true:8.1f} / {naive.claimed:6.1f}   {ours.true:8.1f} ± {ours.error:3.1f} /"
            f" {ours.claimed:6.1f}     {ratio}  {ours.proven:6.1f}  {held}  {ours.proving:13.1%}"
            f"  {ours.headline:8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
