"""``waggle program``: make a research program of one's own, check it, prepare its data."""

import json
from pathlib import Path

from node.config import Command, ProgramCheck, ProgramData, ProgramNew
from protocol.errors import UserError
from trainer.data import prepare
from trainer.program import Program, check_program, load_program, new_program


def program(command: Command) -> int:
    """Raises UserError for what the user must change."""
    match command:
        case ProgramNew(folder, base, text):
            made = new_program(folder, base, text)
            print(f"{folder} holds program {made.spec.name}, swarm {made.swarm_id.hex()[:12]}.")
            print(f"Edit {folder / 'program.md'}, then: waggle program check {folder}; waggle start --program {folder}")
        case ProgramCheck(name, as_json):
            print(_checked(name, as_json=as_json))
        case ProgramData(name, cache):
            prepare(_load(name), cache)
            print(f"the data of {name} are in {cache}")
        case _:
            raise AssertionError(f"not a command about programs: {command}")
    return 0


def _load(name: str) -> Program:
    """A folder named like a built-in program is told apart by a slash, as in ./lm."""
    return load_program(Path(name) if "/" in name else name)


def _checked(name: str, *, as_json: bool) -> str:
    made = _load(name)
    problems = check_program(made)
    if problems:
        raise UserError(f"program {made.spec.name} is not right:\n  " + "\n  ".join(problems))
    spec = made.spec
    if as_json:
        metric = {"name": spec.metric_name, "unit": spec.unit, "goal": spec.goal}
        return json.dumps(
            {"name": spec.name, "swarm_id": made.swarm_id.hex(), "asset": spec.asset, "metric_is": metric,
             "budget_seconds": spec.budget_seconds, "founder": spec.founder}
        )  # fmt: skip
    return (
        f"program {spec.name} is right: {spec.goal} {spec.metric_name}, {spec.budget_seconds:g} s a run,"
        f" asset {spec.asset}, swarm {made.swarm_id.hex()}"
    )
