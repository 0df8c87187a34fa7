"""Does a swarm on one machine spend its core-minutes as well as one node does? Real runs of lm-mini.

    python -m tests.bench.lanes [--core-minutes 16] [--repeats 4] [--checks 4] [--table FILE]

Two nodes with two lanes each, on two cores, against one node with one lane, on one core: for as many core-minutes each.
Two of the single nodes run side by side. What counts is the incumbent that a swarm ends with (its first node's), run
afresh with ``checks`` seeds that nobody chose by: what the nodes themselves saw of it is why it was chosen.

Each end is a line of a table, and what is in it is not run again.
"""

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import trio

from node.archive import open_archive
from node.home import Home
from tests.bench.record import machine
from tests.e2e.kit import Place, Running, place

TABLE = Path(__file__).parent / "data" / "lanes.jsonl"
PROGRAM = "lm-mini"
CORES = (0, 1)
#: name -> nodes, lanes of each, cores
ARMS = {"one node, one lane": (1, 1, 1), "two nodes, two lanes each": (2, 2, 2)}
#: A check's start, training and exam, on a busy core.
CHECK_SECONDS = 300.0
#: Two-sided 95 % of Student's t, by degrees of freedom.
T95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}

Row = dict[str, Any]


@contextmanager
def cores(wanted: Sequence[int]) -> Iterator[None]:
    """What is started here runs on these."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def begin(swarm: Place, nodes: int, lanes: int, seed: int) -> list[Running]:
    running: list[Running] = []
    for number in range(nodes):
        join = ("--join", running[0].address) if running else ()
        options = ("--program", PROGRAM, "--lanes", str(lanes), "--seed", str(seed + 1000 * number), *join)
        running.append(swarm.start(f"node{number}", *options))
        trio.run(running[-1].up)
    return running


def spend(running: Sequence[Running], seconds: float) -> None:
    """Let them work, and end them."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert all(node.process.poll() is None for node in running), running[0].log.read_text()
        time.sleep(1.0)
    for node in running:
        assert node.stop() == 0, node.log.read_text()


def outcome(node: Running, arm: str, repeat: int, core_minutes: float) -> tuple[Row, bytes]:
    """What a swarm came to, and the asset of its incumbent."""
    with open_archive(Home(node.home)) as archive:
        best = archive.snapshot().incumbent
        assert best is not None, node.log.read_text()
        row = {
            "arm": arm, "repeat": repeat, "core_minutes": core_minutes, "experiments": len(list(archive.rows())),
            "claimed": best.metric, "commit": best.commit, "machine": machine(),
        }  # fmt: skip
        return row, archive.asset(best.commit)


def checked(folder: Path, asset: bytes, seeds: Sequence[int]) -> list[float]:
    """The metric of fresh runs, a core each."""
    with place(folder) as bench, ThreadPoolExecutor(len(CORES)) as pool:
        (folder / "train.py").write_bytes(asset)

        def run(seed: int) -> float:
            done = bench.waggle(
                "run", "--program", PROGRAM, "--asset", str(folder / "train.py"), "--seed", str(seed), "--json",
                "--home", str(folder / f"check{seed}"), seconds=CHECK_SECONDS,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return float(json.loads(done.stdout)["metric"])

        return list(pool.map(run, seeds))


def repeats(arm: str, numbers: Sequence[int], core_minutes: float, checks: int, table: Path) -> None:
    """So many repeats of an arm side by side, each on cores of its own."""
    nodes, lanes, width = ARMS[arm]
    with tempfile.TemporaryDirectory(prefix="waggle-lanes-") as made, ExitStack() as stack:
        folders = [Path(made) / str(number) for number in numbers]
        swarms: list[list[Running]] = []
        for place_number, (number, folder) in enumerate(zip(numbers, folders, strict=True)):
            folder.mkdir()
            with cores(CORES[place_number * width : (place_number + 1) * width]):
                swarms.append(begin(stack.enter_context(place(folder)), nodes, lanes, seed=number))
        spend([node for swarm in swarms for node in swarm], 60 * core_minutes / width)
        for number, folder, swarm in zip(numbers, folders, swarms, strict=True):
            row, asset = outcome(swarm[0], arm, number, core_minutes)
            row["metrics"] = checked(folder, asset, range(1, checks + 1))
            with table.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def rows(table: Path, core_minutes: float) -> list[Row]:
    lines = table.read_text().splitlines() if table.exists() else []
    return [row for row in map(json.loads, lines) if row["core_minutes"] == core_minutes]


def record(core_minutes: float, count: int, checks: int, table: Path) -> None:
    """What the table lacks, the arms in turn, so that no slow hour of the machine is one arm's."""
    done = {(row["arm"], row["repeat"]) for row in rows(table, core_minutes)}
    for first in range(1, count + 1, len(CORES)):
        for arm, (_, _, width) in ARMS.items():
            todo = [number for number in range(first, min(first + len(CORES), count + 1)) if (arm, number) not in done]
            beside = len(CORES) // width
            for start in range(0, len(todo), beside):
                repeats(arm, todo[start : start + beside], core_minutes, checks, table)


def interval(values: Sequence[float]) -> str:
    """Their mean, and its 95 % interval by Student's t."""
    if len(values) < 2:
        return f"{values[0]:.4f}"
    reach = T95[min(len(values) - 1, max(T95))] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.4f} ± {reach:.4f}"


def show(some: Sequence[Row]) -> None:
    means: dict[str, list[float]] = {}
    for arm in ARMS:
        mine = sorted((row for row in some if row["arm"] == arm), key=lambda row: row["repeat"])
        means[arm] = [statistics.fmean(row["metrics"]) for row in mine]
        if mine:
            experiments = statistics.fmean(row["experiments"] for row in mine)
            print(f"{arm:26} {len(mine)} repeats, {experiments:.0f} experiments: val_bpb {interval(means[arm])}")
    pairs = list(zip(*means.values(), strict=False))
    if pairs:
        print(f"swarm less one node: {interval([swarm - alone for alone, swarm in pairs])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--core-minutes", type=float, default=16.0)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--checks", type=int, default=4)
    parser.add_argument("--table", type=Path, default=TABLE)
    said = parser.parse_args()
    record(said.core_minutes, said.repeats, said.checks, said.table)
    show(rows(said.table, said.core_minutes))


if __name__ == "__main__":
    main()
