"""What stopping hopeless runs saves, and which wins it would have lost, on recorded real runs of lm-mini.

    python -m tests.bench.early_stopping

Half of the runs, drawn at random, is for choosing margin and slack, the other for trying what was chosen. In each half,
runs at several quantiles of the metric stand for incumbents, and every other run of the half for a candidate against
each of them. A win is a candidate whose metric is better than the incumbent's by more than NOISE: two runs can't tell
less from luck; the smaller gains that were lost are counted apart. Saved is the share of all candidates' budgets.
Chosen is what saves most among what loses at most LOST_SHARE of the wins: a run whose training loss is high and
whose metric is good (much dropout, say) is behind at any margin that saves something.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from trainer.curve import EARLY_MARGIN, EARLY_SLACK, Curve, is_behind

TABLE = Path(__file__).parent / "data" / "lm_mini_runs.jsonl"
#: From a late night's incumbent to that of its beginning.
QUANTILES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
SPLIT_SEED = 0
#: Bits per byte: the standard deviation of the 22 runs of genesis.
NOISE = 0.0185
#: Of the wins, at most, in the half that is chosen on.
LOST_SHARE = 0.01
MARGINS = (0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.12, 0.14)
SLACKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)


@dataclass(frozen=True)
class Run:
    metric: float
    curve: Curve


@dataclass(frozen=True)
class Tally:
    """``small`` counts lost gains within the noise."""

    saved: float
    wins: int
    lost: int
    small: int

    def __str__(self) -> str:
        return f"{self.saved:.1%} of compute saved, {self.lost} of {self.wins} wins lost, and {self.small} lesser gains"


def read(path: Path = TABLE) -> list[Run]:
    rows = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    return [Run(row["metric"], [(at, loss) for at, loss in row["curve"]]) for row in rows if row["metric"] is not None]


def incumbents(runs: Sequence[Run]) -> list[Run]:
    best_first = sorted(runs, key=lambda run: run.metric)
    return [best_first[int(quantile * len(best_first))] for quantile in QUANTILES]


def stopped_at(run: Run, incumbent: Run, margin: float, slack: float) -> float:
    """The fraction of its budget that it gets."""
    for count in range(1, len(run.curve)):
        if is_behind(run.curve[:count], incumbent.curve, margin, slack):
            return run.curve[count - 1][0]
    return 1.0


def tally(runs: Sequence[Run], margin: float, slack: float) -> Tally:
    saved: list[float] = []
    wins = lost = small = 0
    for incumbent, run in product(incumbents(runs), runs):
        if run is incumbent:
            continue
        at, gain = stopped_at(run, incumbent, margin, slack), incumbent.metric - run.metric
        saved.append(1 - at)
        wins += gain > NOISE
        lost += gain > NOISE and at < 1
        small += 0 < gain <= NOISE and at < 1
    return Tally(sum(saved) / len(saved), wins, lost, small)


def choose(runs: Sequence[Run]) -> tuple[float, float]:
    """The margin and slack that save most while they lose few wins."""
    kept = [(tally(runs, *pair), pair) for pair in product(MARGINS, SLACKS)]
    return max((found.saved, pair) for found, pair in kept if found.lost <= LOST_SHARE * found.wins)[1]


def main() -> None:
    runs = read()
    random.Random(SPLIT_SEED).shuffle(runs)
    tuning, trying = runs[: len(runs) // 2], runs[len(runs) // 2 :]
    margin, slack = choose(tuning)
    print(f"{len(tuning)} runs to choose on, {len(trying)} to try; incumbents at the quantiles {QUANTILES}")
    print(f"chosen: margin {margin}, slack {slack}: {tally(tuning, margin, slack)}")
    print(f"on the other half: {tally(trying, margin, slack)}")
    force = tally(trying, EARLY_MARGIN, EARLY_SLACK)
    print(f"in force (trainer/curve.py): margin {EARLY_MARGIN}, slack {EARLY_SLACK}: {force}")
    best = min(trying, key=lambda run: run.metric)
    late = [stopped_at(run, best, EARLY_MARGIN, EARLY_SLACK) for run in trying]
    print(f"in force, against the best run of that half alone: {1 - sum(late) / len(late):.1%} saved")


if __name__ == "__main__":
    main()
