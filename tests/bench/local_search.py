"""The keyless proposer against random search over the same space, on recorded real runs of lm-mini.

    python tests/bench/local_search.py [--seeds 20] [--experiments 60] [--table FILE]

Two models of different kinds are fitted to the table (tests/bench/record.py) and stand in for training: a
Gaussian process with a reach for each tunable, and boosted regression trees. Their errors on held-out runs
are printed beside the spread of the metric and its noise, which is that of the repeated runs of genesis.

A night is one node's: genesis twice, then proposals from the incumbent; a score that beats the incumbent's
mean is replicated, and a mean that still does becomes the incumbent. All runs count. A searcher sees the
model's metric plus noise; it is scored by the model's own metric of its last incumbent, less genesis's.
"""

import argparse
import json
import math
import random
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trio
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from agent.domains import Choice  # noqa: E402
from agent.evidence import evidence  # noqa: E402
from agent.local_search import LocalSearch, estimator_draws, first_step  # noqa: E402
from agent.proposer import Context, Edit, Trial  # noqa: E402
from agent.space import Point, Space, unit  # noqa: E402
from agent.tunables import read_tunables, write_tunables  # noqa: E402
from protocol.statements import Scalar, Status  # noqa: E402
from trainer.program import load_program  # noqa: E402

Array = NDArray[np.float64]
TABLE = ROOT / "tests/bench/data/lm_mini_runs.jsonl"
ASSET = "train.py"
FOLDS = 10
#: As many trials as Optuna's estimator draws at random by default before it begins.
ESTIMATOR_START = 10
#: Two-sided 95 % of a normal; with 20 seeds the t distribution's would be 7 % wider.
Z = 1.96


# what stands in for training


class Table:
    """Scored runs: features of shape [runs, features], metrics, and the noise of repeated runs."""

    def __init__(self, path: Path) -> None:
        self.asset = load_program("lm-mini").asset
        self.space = Space(read_tunables(self.asset, ASSET))
        rows = [json.loads(line) for line in path.read_text().splitlines()[1:]]
        scored = [row for row in rows if row["metric"] is not None]
        self.failed = len(rows) - len(scored)
        self.metrics = np.array([row["metric"] for row in scored])
        self.features = np.array([self.row(row["tunables"]) for row in scored])
        self.repeats = np.array([row["metric"] for row in scored if row["kind"] == "genesis"])
        self.noise = float(self.repeats.std(ddof=1))

    def row(self, values: Mapping[str, Scalar]) -> list[float]:
        """Unit coordinates; numeric options by the order of their logarithms, others one feature each."""
        features: list[float] = []
        point = self.space.place(values)
        assert point is not None
        for name, domain in self.space.domains.items():
            value = point[name]
            if not isinstance(domain, Choice):
                features.append(unit(domain, value))
            elif all(type(option) is int for option in domain.options):
                low, high = (math.log(float(end)) for end in (min(domain.options), max(domain.options)))
                features.append((math.log(float(value)) - low) / (high - low))
            else:
                features += [float(value == option) for option in domain.options[1:]]
        return features


class Process:
    """Gaussian process, squared exponential with a relevance for each feature, found by coordinate ascent."""

    name = "gaussian process"
    RELEVANCE = (0.0, 0.1, 0.3, 1.0, 3.0)
    SWEEPS = 2

    def __init__(self, features: Array, metrics: Array, noise: float) -> None:
        self._features, self._mean = features, float(metrics.mean())
        self._metrics = metrics - self._mean
        self._noise = noise**2 / float(metrics.var())
        squares = (features[:, None, :] - features[None, :, :]) ** 2
        self._relevance = np.full(features.shape[1], 0.3)
        for _ in range(self.SWEEPS):
            self._sweep(squares)
        self._weights = np.linalg.solve(self._covariance(squares @ self._relevance), self._metrics)

    def predict(self, features: Array) -> Array:
        apart = ((features[:, None, :] - self._features[None, :, :]) ** 2) @ self._relevance
        predicted: Array = self._mean + np.exp(-apart) @ self._weights
        return predicted

    def _sweep(self, squares: Array) -> None:
        total = squares @ self._relevance
        for place in range(len(self._relevance)):
            without = total - squares[:, :, place] * self._relevance[place]
            totals = {value: without + squares[:, :, place] * value for value in self.RELEVANCE}
            best = max(totals, key=lambda value: self._likelihood(totals[value]))
            self._relevance[place], total = best, totals[best]

    def _covariance(self, apart: Array) -> Array:
        covariance: Array = np.exp(-apart) + self._noise * np.eye(len(apart))
        return covariance

    def _likelihood(self, apart: Array) -> float:
        factor = np.linalg.cholesky(self._covariance(apart))
        solved = np.linalg.solve(factor, self._metrics)
        count = len(solved)
        return -0.5 * count * math.log(float(solved @ solved) / count) - float(np.log(np.diag(factor)).sum())


@dataclass
class Node:
    value: float
    feature: int = -1
    cut: float = 0.0
    children: "tuple[Node, Node] | None" = None


class Trees:
    """Gradient boosting of small regression trees on squared error (Friedman 2001)."""

    name = "boosted trees"
    ROUNDS = 300
    RATE = 0.05
    DEPTH = 3
    LEAF = 4

    def __init__(self, features: Array, metrics: Array, noise: float) -> None:
        self._mean = float(metrics.mean())
        self._trees: list[Node] = []
        rest = metrics - self._mean
        for _ in range(self.ROUNDS):
            tree = self._grow(features, rest, self.DEPTH)
            rest = rest - self.RATE * evaluate(tree, features)
            self._trees.append(tree)

    def predict(self, features: Array) -> Array:
        total = np.full(len(features), self._mean)
        for tree in self._trees:
            total += self.RATE * evaluate(tree, features)
        return total

    def _grow(self, features: Array, rest: Array, depth: int) -> Node:
        node = Node(float(rest.mean()))
        if depth == 0 or len(rest) < 2 * self.LEAF:
            return node
        order = features.argsort(axis=0, kind="stable")
        values = np.take_along_axis(features, order, axis=0)
        sums = rest[order].cumsum(axis=0)[:-1]
        left = np.arange(1, len(rest))[:, None]
        gains = sums**2 / left + (rest.sum() - sums) ** 2 / (len(rest) - left)
        allowed = (values[1:] > values[:-1]) & (left >= self.LEAF) & (len(rest) - left >= self.LEAF)
        if not allowed.any():
            return node
        place, feature = np.unravel_index(np.where(allowed, gains, -np.inf).argmax(), gains.shape)
        node.feature, node.cut = int(feature), float(values[place : place + 2, feature].mean())
        low = features[:, feature] <= node.cut
        node.children = (
            self._grow(features[low], rest[low], depth - 1),
            self._grow(features[~low], rest[~low], depth - 1),
        )
        return node


def evaluate(node: Node, features: Array) -> Array:
    if node.children is None:
        return np.full(len(features), node.value)
    low, high = (evaluate(child, features) for child in node.children)
    chosen: Array = np.where(features[:, node.feature] <= node.cut, low, high)
    return chosen


Model = Process | Trees


def held_out_error(kind: type[Model], table: Table) -> float:
    """Root mean square error on runs left out, a tenth at a time."""
    order = np.random.default_rng(0).permutation(len(table.metrics))
    errors = []
    for fold in range(FOLDS):
        out = order[fold::FOLDS]
        kept = np.setdiff1d(order, out)
        model = kind(table.features[kept], table.metrics[kept], table.noise)
        errors.append(model.predict(table.features[out]) - table.metrics[out])
    return float(np.sqrt((np.concatenate(errors) ** 2).mean()))


# who searches


Searcher = Callable[[Context], Awaitable[Edit | None]]


def points(how: Callable[[Space, Context, random.Random], Iterator[Point]]) -> Callable[[], Searcher]:
    """A searcher that takes the first new point of an iterator."""

    async def search(context: Context) -> Edit | None:
        space = Space(read_tunables(context.asset, ASSET))
        for point in how(space, context, random.Random(context.seed)):
            asset = write_tunables(context.asset, ASSET, point)
            if not context.taken(asset):
                return Edit(asset, "")
        return None

    return lambda: search


def at_random(space: Space, context: Context, rng: random.Random) -> Iterator[Point]:
    while True:
        yield space.draw(rng)


def steps(space: Space, context: Context, rng: random.Random) -> Iterator[Point]:
    while True:
        yield first_step(space, rng)


def estimator(space: Space, context: Context, rng: random.Random) -> Iterator[Point]:
    known = evidence(space, context, [])
    if known.trials < ESTIMATOR_START:
        return steps(space, context, rng)
    return estimator_draws(space, known, rng, lambda: None)


SEARCHERS: dict[str, Callable[[], Searcher]] = {
    "random": points(at_random),
    "steps alone": points(steps),
    "estimator alone": points(estimator),
    "local": lambda: LocalSearch().propose,
}


# a night


@dataclass
class Candidate:
    asset: bytes
    tunables: Mapping[str, Scalar]
    runs: list[float]

    @property
    def value(self) -> float:
        return math.fsum(self.runs) / len(self.runs)


async def night(
    search: Searcher,
    asset: bytes,
    truth: Callable[[Mapping[str, Scalar]], float],
    noise: float,
    length: int,
    seed: int,
) -> list[float]:
    """True metric of the incumbent after each experiment."""
    rng = random.Random(seed)
    tried: dict[bytes, Candidate] = {}

    def run(asset: bytes) -> Candidate:
        tunables = {name: tunable.value for name, tunable in read_tunables(asset, ASSET).items()}
        candidate = tried.setdefault(asset, Candidate(asset, tunables, []))
        candidate.runs.append(truth(tunables) + rng.gauss(0.0, noise))
        return candidate

    accepted = [run(asset)]
    run(asset)
    course = [truth(accepted[0].tunables)] * 2
    while len(course) < length:
        base = min(accepted, key=lambda candidate: candidate.value)
        candidate = await propose(search, base, tried, rng.getrandbits(63), run)
        course.append(truth(base.tunables))
        if candidate.value < base.value and len(course) < length:
            run(candidate.asset)
            if candidate.value < base.value:
                accepted.append(candidate)
            course.append(truth(min(accepted, key=lambda candidate: candidate.value).tunables))
    return course


async def propose(
    search: Searcher,
    base: Candidate,
    tried: Mapping[bytes, Candidate],
    seed: int,
    run: Callable[[bytes], Candidate],
) -> Candidate:
    trials = [
        Trial(str(place), candidate.tunables, candidate.value, Status.SCORED, "cpu")
        for place, candidate in enumerate(tried.values())
    ]
    commit = str(list(tried).index(base.asset))
    edit = await search(Context("", ASSET, commit, base.asset, "cpu", trials, [], tried.__contains__, seed))
    assert edit is not None, "a space of continuous tunables is never exhausted"
    return run(edit.asset)


# what came of it


def interval(values: Sequence[float]) -> str:
    array = np.array(values)
    return f"{array.mean():+.4f} ± {Z * array.std(ddof=1) / math.sqrt(len(array)):.4f}"


async def compare(model: Model, table: Table, options: argparse.Namespace) -> None:
    def truth(tunables: Mapping[str, Scalar]) -> float:
        return float(model.predict(np.array([table.row(tunables)]))[0])

    genesis = truth(table.space.base)
    ends: dict[str, list[float]] = {}
    print(f"\n{model.name}: the incumbent's true metric less genesis's {genesis:.3f}; 95 % intervals")
    print(f"{'':16} {'half way':>18} {'at the end':>18} {'against random':>18}  seeds better")
    for name, searcher in SEARCHERS.items():
        courses = [
            await night(searcher(), table.asset, truth, table.noise, options.experiments, seed)
            for seed in range(options.seeds)
        ]
        ends[name] = [course[-1] - genesis for course in courses]
        middle = [course[options.experiments // 2 - 1] - genesis for course in courses]
        apart = [end - other for end, other in zip(ends[name], ends["random"], strict=True)]
        better = sum(value < 0 for value in apart)
        print(
            f"{name:16} {interval(middle):>18} {interval(ends[name]):>18} {interval(apart):>18}"
            f"  {better} of {len(apart)}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare keyless searches on recorded runs of lm-mini.")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--experiments", type=int, default=60)
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_args()
    table = Table(options.table)
    print(
        f"{len(table.metrics)} scored runs ({table.failed} failed), spread {table.metrics.std():.3f}, best "
        f"{table.metrics.min():.3f}; genesis {table.repeats.mean():.3f}, noise {table.noise:.4f} "
        f"(standard deviation of {len(table.repeats)} runs)"
    )
    for kind in (Process, Trees):
        print(f"{kind.name}: error on held-out runs {held_out_error(kind, table):.3f}", flush=True)
    for kind in (Process, Trees):
        trio.run(compare, kind(table.features, table.metrics, table.noise), table, options)


if __name__ == "__main__":
    main()
