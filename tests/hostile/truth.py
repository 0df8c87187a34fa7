"""What candidates of the numbers program are really worth: its metric without the noise."""

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType

from tests.programs.variants import NUMBERS

#: The program's noise; means of some runs are within four of it, nearly always.
NOISE = 0.01
NEAR = 4 * NOISE


def true_distance(asset: bytes) -> float:
    """The metric of an asset, exactly."""
    values = {name: entry["value"] for name, entry in json.loads(asset).items()}
    evaluator = _evaluator()
    distance: float = evaluator.WORTH[values["mode"]] + sum(evaluator.squares(values, None))
    return distance


def asset_in(home: Path, commit: str) -> bytes:
    """The asset at ``commit`` in a home's lineage."""
    command = ["git", "-C", str(home / "lineage"), "show", f"{commit}:numbers.json"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def _evaluator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("numbers_evaluator", NUMBERS / "evaluator.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
