"""Record real runs of lm-mini: a table on which search strategies can be compared without training again.

    python tests/bench/record.py [--runs 500] [--core 1] [--table tests/bench/data/lm_mini_runs.jsonl]

Each line is a run: its place in the plan, its tunables, its seed and what came of it. The first line says how
and where it was recorded. The plan is seeded and fixed: the asset as it is with REPEATS other seeds, then
points drawn at random from the declared domains, one from the whole space and one from the neighbourhood of
the default (NEAR tunables moved) in turn, and every AGAIN-th run the asset as it is once more. From the run FIRST_MUON
on all but these train with Muon, which the asset did not know before; without it, it trains as it did, to the last bit.
``load`` is the machine's load average at a run's end: neighbours slow a core down even by its own clock.

Run it again and it goes on where it stopped; it stops with SIGTERM or SIGINT, after which the table is whole.
One process at a time, on one core.

The runs go through the program's own runner and evaluator, without the sandbox: a run has the same numbers
as one by the trainer.
"""

import argparse
import hashlib
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from agent.domains import Choice, Int, Log, Tunable  # noqa: E402
from agent.tunables import read_tunables, write_tunables  # noqa: E402
from trainer import data  # noqa: E402
from trainer.inside import examiner, frames  # noqa: E402
from trainer.inside.candidate import import_file  # noqa: E402
from trainer.program import Program, load_program  # noqa: E402

TABLE = ROOT / "tests/bench/data/lm_mini_runs.jsonl"
REPEATS = 8
#: So that a drift of the machine shows.
AGAIN = 16
#: How many tunables a neighbour of the default differs in.
NEAR = 3
PLAN_SEED = 20261123
FIRST_MUON = 420
MUON = {"OPTIMIZER": "muon"}
#: A run that is over its budget by so much would be killed by the trainer.
OVERRUN = 1.05
#: Wall seconds after which a run is given up: start-up, budget and exam on a shared core.
GIVE_UP = 180.0
#: As the sandbox sets them; notes in trainer/sandbox.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "PATH": os.environ.get("PATH", ""),
}
CHILD = "import json, sys; sys.path.insert(0, {root!r}); from trainer.inside import candidate; "
CHILD += "sys.exit(candidate.main(json.loads(sys.argv[1])))"


def main() -> None:
    options = parse()
    os.sched_setaffinity(0, {options.core})
    os.nice(5)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    program = load_program("lm-mini")
    prepared = data.prepare(program, options.cache)
    done = resume(options.table, header(program))
    try:
        for number, (kind, asset, seed) in enumerate(plan(program.asset, options.runs)):
            if number in done:
                continue
            tunables = {
                name: tunable.value for name, tunable in read_tunables(asset, program.spec.asset).items()
            }
            row = {"number": number, "kind": kind, "seed": seed, **run(program, prepared, asset, seed)}
            append(options.table, {**row, "tunables": tunables})
            print(number, kind, row["status"], row["metric"], row["failure"][-200:], flush=True)
    except KeyboardInterrupt:
        print("stopped; run again to go on", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Record real runs of lm-mini.")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--core", type=int, default=1)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "waggle-bench-cache")
    return parser.parse_args()


def header(program: Program) -> dict[str, Any]:
    return {
        "program": program.spec.name,
        "files_sha256": fingerprint(program),
        "budget_seconds": program.spec.budget_seconds,
        "clock": "cpu",
        "harness": "tests/bench/record.py: the program's runner and evaluator, no sandbox, nice 5",
        "machine": machine(),
    }


def fingerprint(program: Program) -> str:
    """The hash of what is trained. How runner and evaluator guard against cheats changes no honest run: who changes
    how they train or score moves the table away.
    """
    names = [program.spec.asset, "tunables.py", data.TOKENIZER_FILE]
    files = {name: hashlib.sha256(program.files[name]).hexdigest() for name in names}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def resume(table: Path, head: Mapping[str, Any]) -> set[int]:
    """Numbers of the runs in the table, started if there is none; a torn last line is cut off."""
    if not table.exists():
        table.parent.mkdir(parents=True, exist_ok=True)
        append(table, head)
        return set()
    whole = table.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    os.truncate(table, len(whole))
    rows = [json.loads(line) for line in whole.splitlines()]
    if any(rows[0][key] != head[key] for key in ("files_sha256", "budget_seconds")):
        sys.exit(f"{table} was recorded with other files or another budget: move it away to start anew")
    return {row["number"] for row in rows[1:]}


def append(table: Path, row: Mapping[str, Any]) -> None:
    with table.open("a") as file:
        file.write(json.dumps(row) + "\n")


def plan(asset: bytes, runs: int) -> Iterator[tuple[str, bytes, int]]:
    """(kind, asset, seed) of every run: the same sequence whenever it is asked for."""
    tunables = read_tunables(asset, "train.py")
    names = sorted(tunables.keys() - {"OPTIMIZER", "MUON_RATE"})
    rng = random.Random(PLAN_SEED)
    for number in range(runs):
        seed = rng.getrandbits(63)
        if number < REPEATS or number % AGAIN == 0:
            yield "genesis", asset, seed
            continue
        near = number % 2 == 1
        moved = rng.sample(names, NEAR) if near else names
        values = {name: draw(tunables[name], rng) for name in moved}
        if number >= FIRST_MUON:
            values |= MUON | {"MUON_RATE": draw(tunables["MUON_RATE"], rng)}
        yield "near" if near else "random", write_tunables(asset, "train.py", values), seed


def draw(tunable: Tunable, rng: random.Random) -> Any:
    """Uniform in the declared domain."""
    domain = tunable.domain
    if isinstance(domain, Choice):
        return rng.choice(domain.options)
    if isinstance(domain, Int):
        if not domain.log:
            return rng.randint(int(domain.low), int(domain.high))
        return round(math.exp(rng.uniform(math.log(domain.low - 0.49), math.log(domain.high + 0.49))))
    if isinstance(domain, Log):
        return float(f"{math.exp(rng.uniform(math.log(domain.low), math.log(domain.high))):.4g}")
    return float(f"{rng.uniform(domain.low, domain.high):.4g}")


def run(program: Program, prepared: data.Data, asset: bytes, seed: int) -> dict[str, Any]:
    """One experiment: status, metric, its standard error, loss curve, seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "files"
        folder.mkdir()
        for name, content in {**program.files, program.spec.asset: asset}.items():
            (folder / name).write_bytes(content)
        began = time.monotonic()
        row = {
            "status": "crashed",
            "metric": None,
            "metric_se": None,
            "cpu_seconds": 0.0,
            "failure": "",
            "curve": [],
        }
        row |= converse(program, prepared, folder, seed)
        seconds = round(time.monotonic() - began, 2)
        return {**row, "wall_seconds": seconds, "load": round(os.getloadavg()[0], 2)}


def converse(program: Program, prepared: data.Data, folder: Path, seed: int) -> dict[str, Any]:
    control, theirs = socket.socketpair()
    exam, their_exam = socket.socketpair()
    for ours in (control, exam):
        ours.settimeout(GIVE_UP)
    config = {
        "files": str(folder),
        "asset": program.spec.asset,
        "runner": program.spec.runner,
        "workspace": str(folder),
        "device": "cpu",
        "threads": 1,
        "clock": "cpu",
        "seconds": program.spec.budget_seconds,
        "control": theirs.fileno(),
        "exams": [their_exam.fileno()],
        "saved": None,
    }
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(root=str(ROOT)), json.dumps(config)],
        pass_fds=(theirs.fileno(), their_exam.fileno()),
        cwd=folder,
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )
    theirs.close()
    their_exam.close()
    try:
        row = trained(control, prepared, seed)
        return row if row["status"] != "scored" else row | score(program, prepared, folder, exam, seed)
    except TimeoutError:
        return {"status": "timed out"}
    finally:
        child.kill()
        child.wait()
        control.close()
        exam.close()


def trained(control: socket.socket, prepared: data.Data, seed: int) -> dict[str, Any]:
    """Start the clock, follow the progress, and see that the budget was kept."""
    curve: list[tuple[float, float]] = []
    while (message := frames.receive(control)) is not None:
        match message["type"]:
            case "ready":
                start(control, prepared, seed)
            case "progress":
                curve.append((round(message["fraction"], 4), round(message["loss"], 4)))
            case "failed":
                return {"status": "crashed", "failure": message["error"], "curve": thin(curve)}
            case "trained":
                over = curve and curve[-1][0] > OVERRUN
                row = {"cpu_seconds": round(message["cpu"], 3), "curve": thin(curve)}
                return {**row, "status": "overran" if over else "scored"}
    return {"status": "crashed", "failure": "the candidate hung up", "curve": thin(curve)}


def start(control: socket.socket, prepared: data.Data, seed: int) -> None:
    assert prepared.train is not None
    files = sorted(path for path in prepared.train.iterdir())
    descriptors = [os.open(path, os.O_RDONLY) for path in files]
    body = frames.encode({"type": "start", "seed": seed, "files": [path.name for path in files]})
    socket.send_fds(control, [body], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)


def thin(curve: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return curve[:: max(1, math.ceil(len(curve) / 64))]


def score(
    program: Program, prepared: data.Data, folder: Path, exam: socket.socket, seed: int
) -> dict[str, Any]:
    evaluator = import_file(folder / program.spec.evaluator, "evaluator")
    entropy = hashlib.sha256(str(seed).encode()).digest()
    try:
        found = evaluator.examine(examiner.Exam(prepared.validation, entropy, exam))
    except examiner.Reject as reject:
        return {"status": "rejected", "failure": str(reject)}
    except examiner.CandidateGone:
        return {"status": "crashed", "failure": "the candidate hung up in its exam"}
    return {"metric": found["metric"], "metric_se": found["se"]}


if __name__ == "__main__":
    main()
