"""What candidates of the numbers program are really worth: its metric without the noise."""

import subprocess
from pathlib import Path

#: The program's noise; means of some runs are within four of it, nearly always.
NOISE = 0.01
NEAR = 4 * NOISE


def asset_in(home: Path, commit: str) -> bytes:
    """The asset at ``commit`` in a home's lineage."""
    command = ["git", "-C", str(home / "lineage"), "show", f"{commit}:numbers.json"]
    return subprocess.run(command, capture_output=True, check=True).stdout
