"""What is installed from the wheel works outside the checkout."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.e2e.kit import ROOT
from tests.programs.variants import write_numbers

#: Installing torch and the rest into an empty environment.
INSTALL_SECONDS = 540.0


def run(*command: str | Path, cwd: Path, seconds: float = 60.0) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "WAGGLE_CACHE": str(cwd / "cache")}
    environment |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=seconds,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_works_anywhere(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").iterdir()
    venv.create(tmp_path / "venv", with_pip=True)
    there = tmp_path / "venv" / "bin"
    run(there / "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel,
        cwd=tmp_path, seconds=INSTALL_SECONDS)  # fmt: skip
    assert run(there / "waggle", "--version", cwd=tmp_path).startswith("waggle 0.")
    for name in ("lm", "lm-mini"):
        assert f"program {name} is right" in run(there / "waggle", "program", "check", name, cwd=tmp_path)
    numbers = write_numbers(tmp_path / "numbers")
    said = run(there / "waggle", "start", "--program", numbers, "--no-listen", "--http", "127.0.0.1:0",
               "--max-experiments", "2", "--exit-when-done", cwd=tmp_path)  # fmt: skip
    assert "waggledance" in said
    assert "2 scored" in run(there / "waggle", "status", cwd=tmp_path)
