"""``waggle run``: one experiment by hand, as the loop would run it."""

import json
import secrets
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trio

from node import logs
from node.archive import held_program
from node.config import Run
from node.home import Home
from node.journal import Journal
from node.view import metric_text
from node.workbench import Workbench, open_workbench
from protocol.commits import blob_id
from protocol.diffs import MAX_ASSET_BYTES
from protocol.errors import UserError
from protocol.statements import Status
from trainer.job import Job, Outcome
from trainer.program import Program, load_program

SCORED, FAILED = 0, 3
DEFAULT_PROGRAM = "lm"
SEED_BITS = 63


def run(command: Run) -> int:
    """0 where the candidate was scored, else 3. Raises UserError where it could not be run."""
    logs.set_up(0)
    program, own = _program(command)
    asset = program.asset if command.asset is None else _read(command.asset)
    seed = secrets.randbits(SEED_BITS) if command.seed is None else command.seed
    with tempfile.TemporaryDirectory(prefix="waggle-run-") as scratch:
        bench, outcome = trio.run(_experiment, command, program, own, Job(asset, seed), Path(scratch))
    values = _values(program, bench, Job(asset, seed), outcome)
    print(json.dumps(values) if command.json else "\n".join(_lines(values)))
    return SCORED if outcome.status is Status.SCORED else FAILED


async def _experiment(command: Run, program: Program, own: bool, job: Job, scratch: Path) -> tuple[Workbench, Outcome]:
    bench = await open_workbench(
        program, cache=command.cache, scratch=scratch, device=command.device, unsafe=command.unsafe, own=own
    )
    return bench, await bench.trainer.run(job, on_output=_stream)


def _program(command: Run) -> tuple[Program, bool]:
    """The one that was named, else the home's, else the default; and whether it is ours or the user's own."""
    home = Home(command.home)
    if command.program is None and home.exists:
        journal = Journal(home.journal, read_only=True)
        try:
            held = held_program(journal)
            if held is not None:
                return held, held.builtin or journal.meta("source") != b"peer"
        finally:
            journal.close()
    return load_program(command.program or DEFAULT_PROGRAM), True


def _read(path: Path) -> bytes:
    try:
        asset = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    if len(asset) > MAX_ASSET_BYTES:
        raise UserError(f"{path} has {len(asset)} bytes; an asset may have {MAX_ASSET_BYTES}")
    return asset


def _stream(part: bytes) -> None:
    """What the candidate prints, as it comes, without what a terminal would obey."""
    sys.stderr.write(logs.clean(part.decode("utf-8", "replace")))
    sys.stderr.flush()


def _values(program: Program, bench: Workbench, job: Job, outcome: Outcome) -> dict[str, Any]:
    device, genesis = bench.trainer.device, program.commits.genesis
    changed = job.asset != program.asset
    return {
        "program": program.spec.name,
        "swarm_id": program.swarm_id.hex(),
        "commit": program.commits.candidate(genesis, blob_id(job.asset)) if changed else genesis,
        "metric_name": program.spec.metric_name,
        "unit": program.spec.unit,
        "seed": job.seed,
        "device": device.name,
        "tier": device.tier,
        "sandbox": bench.sandbox,
        **asdict(outcome),
        "status": outcome.status.value,
    }


def _lines(values: dict[str, Any]) -> list[str]:
    times = f"{values['cpu_seconds']:.1f} s cpu, {values['wall_seconds']:.1f} s wall"
    lines = [
        f"{values['program']}  commit {values['commit'][:12]}  seed {values['seed']}  {values['tier']}",
        f"{values['status']}  {times}, {values['overhead_seconds']:.1f} s overhead, {values['peak_memory'] >> 20} MiB",
    ]
    if values["metric"] is not None:
        lines.append(f"{values['metric_name']} {metric_text(values['metric'])} {values['unit']}".rstrip())
    if values["failure"]:
        lines.append(logs.clean(values["failure"]))
    return lines
