"""How far apart the same candidate's runs of the same seed come out, by the cpu and by the wall clock, on a quiet
machine and on one where as many others compute as it has cores.

    python -m tests.bench.clocks [--runs 6] [--seconds 10]

Real sandboxed runs of lm-mini's genesis with another budget. What differs between two such runs is the number of
steps that fit into the budget, and with it the metric.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from node.config import default_cache
from node.workbench import open_workbench
from trainer.job import Job, Outcome
from trainer.program import MANIFEST_FILE, Program, load_program, parse_program

SEED = 1


def program(clock: str, seconds: float) -> Program:
    files = dict(load_program("lm-mini").files)
    manifest = files[MANIFEST_FILE].decode().replace('clock = "auto"', f'clock = "{clock}"')
    changed = manifest.replace("seconds = 20", f"seconds = {seconds:g}")
    assert changed != manifest or seconds == 20
    files[MANIFEST_FILE] = changed.encode()
    made = parse_program(files)
    assert (made.spec.clock, made.spec.budget_seconds) == (clock, seconds)
    return made


def compute_for_ever() -> None:
    while True:
        sum(range(100_000))


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that each want a core."""
    busy = [multiprocessing.get_context("spawn").Process(target=compute_for_ever, daemon=True) for _ in range(count)]
    for one in busy:
        one.start()
    try:
        yield
    finally:
        for one in busy:
            one.kill()
            one.join()


async def runs(clock: str, seconds: float, count: int) -> list[Outcome]:
    made = program(clock, seconds)
    with tempfile.TemporaryDirectory(prefix="waggle-clocks-") as scratch:
        bench = await open_workbench(
            made, cache=default_cache(os.environ), scratch=Path(scratch), device="cpu", unsafe=False, own=True
        )
        return [await bench.trainer.run(Job(made.asset, SEED)) for _ in range(count)]


def main(count: int, seconds: float) -> None:
    cores = os.cpu_count() or 1
    print(f"{count} runs each of one seed, {seconds:g} s; {cores} cores, load before {os.getloadavg()[0]:.1f}")
    for name, others in (("quiet", 0), ("busy", cores)):
        for clock in ("cpu", "wall"):
            with neighbours(others):
                found = trio.run(runs, clock, seconds, count)
            metrics = [one.metric for one in found if one.metric is not None]
            mean, spread = statistics.mean(metrics), statistics.stdev(metrics)
            wall = statistics.mean(one.wall_seconds for one in found)
            failed = f", {count - len(metrics)} not scored" if len(metrics) < count else ""
            figures = f"val_bpb {mean:.4f}, sd {spread:.4f}; {wall:.1f} s wall a run{failed}"
            print(f"{name:6} {clock:5} clock: {figures}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0)
    main(*vars(parser.parse_args()).values())
