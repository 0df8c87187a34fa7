"""What the trainer's tests share: trainers, and programs whose asset does what a test wants."""

import json
from pathlib import Path

from tests.programs.variants import write_numbers
from trainer.data import prepare
from trainer.device import Device
from trainer.experiment import Trainer
from trainer.job import Caps
from trainer.program import Program, load_program
from trainer.sandbox import Sandbox, Unsafe

CPU = Device("cpu", "test", "cpu-test", "none")
#: The budget is a second; the rest leaves room for a machine that is busy with other tests.
CAPS = Caps(startup=60.0, exam=60.0, grace=0.5, wall=20.0)

RUNNER = """
import importlib.util

def train(run):
    spec = importlib.util.spec_from_file_location("asset", run.asset)
    asset = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(asset)
    return asset, asset.train(run)

def answer(state, question):
    asset, trained = state
    return asset.answer(trained, question)
"""
#: Scores 1.0 whatever is answered, unless the answer says something else.
EVALUATOR = """
def examine(exam):
    answer = exam.ask({"what": "metric"})
    return {"metric": answer.get("metric", 1.0), "se": 0.5}
"""
PLAIN = """
def train(run):
    return None

def answer(trained, question):
    return {"metric": 1.0}
"""


def script_program(
    folder: Path,
    asset: str = PLAIN,
    *,
    evaluator: str = EVALUATOR,
    files: dict[str, str] | None = None,
    **changes: str,
) -> Program:
    """A program whose asset is a script with ``train(run)`` and ``answer(trained, question)``.

    What the script does not define is as in PLAIN; ``changes`` replace values in program.md.
    """
    write_numbers(folder, name="script", seconds=1)
    manifest = (folder / "program.md").read_text().replace('"numbers.json"', '"train.py"')
    for key, value in changes.items():
        lines = [
            f"{key} = {value}" if line.startswith(f"{key} = ") else line for line in manifest.splitlines()
        ]
        manifest = "\n".join(lines) + "\n"
    written = {
        "program.md": manifest,
        "train.py": PLAIN + asset,
        "runner.py": RUNNER,
        "evaluator.py": evaluator,
    }
    for path, text in {**written, **(files or {})}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    (folder / "numbers.json").unlink()
    return load_program(folder)


def trainer(tmp: Path, program: Program, sandbox: Sandbox | None = None, caps: Caps = CAPS) -> Trainer:
    data = prepare(program, tmp / "cache")
    return Trainer(program, data, sandbox or Unsafe(), CPU, scratch=tmp / "scratch", caps=caps)


def reporting(body: str) -> str:
    """A script that runs ``body`` in ``train``, whose ``found`` becomes the failure's last line, as JSON."""
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return f"""
import json, os, socket, sys
def train(run):
    found = {{}}
{lines}
    print(json.dumps(found), flush=True)
    return None
"""


def found(output: bytes) -> dict[str, object]:
    """What a ``reporting`` script printed."""
    (line,) = [line for line in output.splitlines() if line.startswith(b"{")]
    value = json.loads(line)
    assert isinstance(value, dict)
    return value
