"""How much sooner N nodes reach a target than one does (tests/sim/nights.py says what a night is).

    python -m tests.sim.speedup [--nodes 1 2 4 8 16] [--seeds 20] [--variant all ...] [--model process] [--jobs 2]
    python -m tests.sim.speedup --show [--picture FILE]

The targets are gains in the model's own metric over genesis, fixed before anything is run: GAIN is the one that counts,
the others show what becomes of an easier and of a harder one. A swarm is there when the incumbents of half of its nodes
are, by the model without noise: what a node claims or was lucky with does not count. Beside it stands what could be had
if only the best of N edits counted: a single winner each round, 1-(1-p)^N, where p is the share of one node's edits
that win. One node is run by the same code.

Each night is a line of a table, so that what was recorded is not run again; the table of another model or program is
moved away by hand. A night that ends without a target counts as MOST_BUDGETS, so that its time is too low.
"""

import argparse
import hashlib
import json
import math
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import trio
from trio.testing import MockClock

from tests.bench.local_search import TABLE, Process, Table, Trees, held_out_error
from tests.sim import nights
from tests.sim.nights import MOST_BUDGETS, World, night
from trainer.program import Program, load_program

NIGHTS = Path(__file__).parents[1] / "bench" / "data" / "nights.jsonl"
GAIN = 0.25
GAINS = (0.15, GAIN, 0.35)
MODELS: Mapping[str, type[Process] | type[Trees]] = {"process": Process, "trees": Trees}


class Variant(NamedTuple):
    """What is otherwise, how many of ten nodes lie, and of how many tiers they are."""

    change: Callable[[], None] = lambda: None
    liars: int = 0
    tiers: int = 1


VARIANTS: Mapping[str, Variant] = {
    "all": Variant(),
    "without recombination": Variant(nights.without_recombination),
    "without rebase": Variant(nights.without_rebase),
    "without islands": Variant(nights.without_islands),
    "without leads": Variant(nights.without_leads),
    "naive acceptance": Variant(nights.naive),
    "one in ten lies": Variant(liars=1),
    "two tiers": Variant(tiers=2),
    "two tiers, no transplants": Variant(nights.without_transplants, tiers=2),
    "two tiers, trials of one's own alone": Variant(nights.without_elsewhere, tiers=2),
}
#: Of edits that win, for which the single winner's bound is told besides the nights' own.
SHARES = (0.05, 0.1, 0.5)
#: Resamplings of an interval (bootstrap: Efron 1979).
RESAMPLES = 4000

Row = dict[str, Any]


# running


class Runner:
    """Of one process: the model is fitted once, and the variant holds for all of its nights."""

    world: World
    program: Program

    @classmethod
    def begin(cls, model: str, variant: str) -> None:
        nights.inline()
        VARIANTS[variant].change()
        program = load_program("lm-mini")
        if variant == "naive acceptance":
            program = replace(program, spec=replace(program.spec, replications=1))
        cls.world, cls.program = World(MODELS[model], Table(TABLE)), program

    @classmethod
    def run(cls, count: int, seed: int, liars: int, tiers: int) -> Row:
        clock = MockClock(autojump_threshold=0)
        found = trio.run(night, cls.world, cls.program, count, seed, GAINS, liars, tiers, clock=clock)
        budgets = {f"{gain:g}": None if math.isinf(at) else round(at, 2) for gain, at in found.budgets.items()}
        return {
            "nodes": count, "seed": seed, "budgets": budgets, "experiments": found.experiments,
            "wins": round(found.wins, 4), "overstated": round(found.overstated, 4),
        }  # fmt: skip


def record(counts: Sequence[int], seeds: int, variants: Sequence[str], model: str, jobs: int, table: Path) -> None:
    """Run what the table lacks, the nights of one size after another, and add each to it as it ends."""
    for variant in variants:
        done = {(row["nodes"], row["seed"]) for row in rows(table, model, variant)}
        todo = [(count, seed) for count in counts for seed in range(1, seeds + 1) if (count, seed) not in done]
        if not todo:
            continue
        if VARIANTS[variant].liars:
            todo = [one for one in todo if VARIANTS[variant].liars * one[0] // 10]  # else it would be another variant
        liars = [VARIANTS[variant].liars * count // 10 for count, _ in todo]
        tiers = [VARIANTS[variant].tiers] * len(todo)
        with ProcessPoolExecutor(jobs, initializer=Runner.begin, initargs=(model, variant)) as pool:
            for row in pool.map(Runner.run, *zip(*todo, strict=True), liars, tiers):
                with table.open("a") as file:
                    file.write(json.dumps({"model": model, "variant": variant, "outcomes": outcomes(), **row}) + "\n")
                print(variant, row, flush=True)


def outcomes() -> str:
    """Which recorded runs the nights are of."""
    return hashlib.sha256(TABLE.read_bytes()).hexdigest()[:12]


def rows(table: Path, model: str, variant: str) -> list[Row]:
    if not table.exists():
        return []
    every = [json.loads(line) for line in table.read_text().splitlines()]
    return [row for row in every if (row["model"], row["variant"], row["outcomes"]) == (model, variant, outcomes())]


# what came of it


def times(nights_: Sequence[Row], gain: float) -> list[float]:
    """Budgets to a target, of each night."""
    return [MOST_BUDGETS if row["budgets"][f"{gain:g}"] is None else row["budgets"][f"{gain:g}"] for row in nights_]


def mean(nights_: Sequence[Row], key: str) -> float:
    return statistics.fmean(row[key] for row in nights_)


def sooner(alone: Sequence[float], many: Sequence[float]) -> tuple[float, float, float]:
    """How many times sooner on the mean, and its 95 % interval by resampling nights."""
    rng = random.Random(1)
    ratios = sorted(
        statistics.fmean(rng.choices(alone, k=len(alone))) / statistics.fmean(rng.choices(many, k=len(many)))
        for _ in range(RESAMPLES)
    )
    low, high = ratios[round(0.025 * RESAMPLES)], ratios[round(0.975 * RESAMPLES)]
    return statistics.fmean(alone) / statistics.fmean(many), low, high


def single_winner(chance: float, count: int) -> float:
    """How many times sooner, if of N edits at a time only the best counted."""
    return (1 - (1 - chance) ** count) / chance if chance else float(count)


def by_count(nights_: Sequence[Row]) -> dict[int, list[Row]]:
    counts = sorted({row["nodes"] for row in nights_})
    return {count: [row for row in nights_ if row["nodes"] == count] for count in counts}


def lines(table: Path, model: str) -> Iterator[str]:
    """The tables that README quotes."""
    every = by_count(rows(table, model, "all"))
    alone = every.get(1, [])
    if not alone:
        return
    chance = mean(alone, "wins")
    yield f"of one node's edits {chance:.0%} win"
    yield "if of N edits at a time only the best counted, times sooner by the share p of edits that win"
    for share in (*SHARES, chance):
        bounds = (f"{single_winner(share, count):.1f} with {count}" for count in every)
        yield f"p = {share:.2f}: {', '.join(bounds)}"
    for gain in GAINS:
        yield f"\n{gain:g} bits per byte below genesis"
        yield "nodes  nights  budgets  sooner (95 %)       one winner a round  missed"
        for count, some in every.items():
            ratio, low, high = sooner(times(alone, gain), times(some, gain))
            missed = sum(row["budgets"][f"{gain:g}"] is None for row in some)
            yield (
                f"{count:5}  {len(some):6}  {statistics.fmean(times(some, gain)):7.1f}"
                f"  {ratio:5.1f} ({low:.1f} to {high:.1f})  {single_winner(chance, count):10.1f}  {missed:12}"
            )
    yield f"\nvariant                  nodes  nights  budgets to {GAIN:g}  sooner (95 %)  experiments  overstated"
    for variant in VARIANTS:
        for count, some in by_count(rows(table, model, variant)).items():
            ratio, low, high = sooner(times(alone, GAIN), times(some, GAIN))
            yield (
                f"{variant:24} {count:5}  {len(some):6}  {statistics.fmean(times(some, GAIN)):15.1f}"
                f"  {ratio:5.1f} ({low:.1f} to {high:.1f})"
                f"  {mean(some, 'experiments'):11.0f}  {mean(some, 'overstated'):10.3f}"
            )


def draw(path: Path, table: Path, model: str) -> None:
    """Times sooner over the number of nodes, both by factors of two, beside as many times sooner as there are nodes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    every = by_count(rows(table, model, "all"))
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    counts = list(every)
    axes.plot(counts, counts, color="0.7", linestyle="--", label="N times sooner")
    for gain in GAINS:
        found = [sooner(times(every[1], gain), times(some, gain)) for some in every.values()]
        around = [[ratio - low for ratio, low, _ in found], [high - ratio for ratio, _, high in found]]
        ratios = [ratio for ratio, *_ in found]
        axes.errorbar(counts, ratios, around, marker="o", capsize=3, label=f"{gain:g} below genesis")
    chance = mean(every[1], "wins")
    bound = [single_winner(chance, count) for count in counts]
    axes.plot(counts, bound, color="0.4", linestyle=":", label=f"one winner a round, p = {chance:.2f}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    seeds = min(len(some) for some in every.values())
    axes.set(xlabel="nodes", ylabel="times sooner than one node", title=f"lm-mini, {seeds} nights each, 95 % intervals")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=["all"])
    parser.add_argument("--model", choices=MODELS, default="process")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--table", type=Path, default=NIGHTS)
    parser.add_argument("--show", action="store_true", help="run nothing, and print what the table comes to")
    parser.add_argument("--picture", type=Path, help="a PNG file to write")
    said = parser.parse_args()
    if not said.show:
        record(said.nodes, said.seeds, said.variant, said.model, said.jobs, said.table)
    runs = Table(TABLE)
    error = held_out_error(MODELS[said.model], runs)
    print(f"{len(runs.metrics)} recorded runs, noise {runs.noise:.4f}; {said.model}: held-out error {error:.4f}")
    print("\n".join(lines(said.table, said.model)))
    if said.picture is not None:
        draw(said.picture, said.table, said.model)


if __name__ == "__main__":
    main()
