"""What a run costs besides training and examination, cold and warm, in the strongest sandbox that this machine has.

    python -m tests.bench.overhead [--runs 3] [--seconds 5] [--sandbox bubblewrap|landlock]

Cold: the child is started for the run. Warm: it was started while the run before trained (trainer/prepared.py).
Budgets are cut to --seconds, which changes no overhead; a warm run follows a run that was long enough to warm up.
"""

import argparse
import os
import platform
import statistics
import tempfile
from pathlib import Path

import trio

from node.config import default_cache
from node.workbench import open_workbench
from tests.programs.variants import NUMBERS
from trainer.job import Job, Outcome
from trainer.program import MANIFEST_FILE, Program, load_program, parse_program
from trainer.sandbox import BACKENDS


def shortened(name: str, seconds: float) -> Program:
    program = load_program(name)
    old = f"seconds = {program.spec.budget_seconds:g}"
    manifest = program.files[MANIFEST_FILE].decode()
    assert old in manifest
    return parse_program(
        {**program.files, MANIFEST_FILE: manifest.replace(old, f"seconds = {seconds:g}").encode()}
    )


async def outcomes(program: Program, runs: int, warm: bool, backend: str) -> tuple[str, list[Outcome]]:
    with tempfile.TemporaryDirectory(prefix="waggle-overhead-") as scratch:
        chosen = [one for one in BACKENDS if backend in ("", one.name)]  # type: ignore[attr-defined]
        bench = await open_workbench(
            program, cache=default_cache(os.environ), scratch=Path(scratch), device="cpu", unsafe=False, own=True,
            backends=chosen,
        )  # fmt: skip
        found = []
        async with trio.open_nursery() as nursery:
            if warm:
                nursery.start_soon(bench.trainer.keep_warm)
                await bench.trainer.run(Job(program.asset, 0))
            for number in range(runs):
                found.append(await bench.trainer.run(Job(program.asset, number)))
            nursery.cancel_scope.cancel()
        return bench.sandbox, found


def main(runs: int, seconds: float, sandbox: str) -> None:
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, program in (("numbers", load_program(str(NUMBERS))), ("lm-mini", shortened("lm-mini", seconds))):
        for warm in (False, True):
            used, found = trio.run(outcomes, program, runs, warm, sandbox)
            told = [one.overhead_seconds for one in found]
            memory = max(one.peak_memory for one in found) >> 20
            statuses = {one.status.value for one in found}
            print(
                f"{name:8} {'warm' if warm else 'cold'} in {used}: median {statistics.median(told):.2f} s"
                f" ({min(told):.2f} to {max(told):.2f}), {memory} MiB, {', '.join(statuses)}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--sandbox", default="", choices=["", "bubblewrap", "landlock"])
    main(**vars(parser.parse_args()))
