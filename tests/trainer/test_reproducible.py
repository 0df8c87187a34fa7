"""Same asset, same seed, same number of steps: the same weights, bit for bit, on a CPU.

What differs between two runs of a seed is how far they come within the budget (tests/bench/clocks.py).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.record import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """
import hashlib, itertools, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
folder, seed, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, str(folder))
import runner
count = itertools.count()
text = np.random.default_rng(0).integers(2048, size=100_000, dtype=np.uint16)
run = SimpleNamespace(files=folder, asset=folder / "train.py", seed=seed, device="cpu", threads=1, state=2048,
                      data={"tokens.bin": text.view(np.uint8)}, fraction=lambda: next(count) / steps,
                      report=lambda loss: print(loss))
runner.load(run)
model, _ = runner.train(run)
print(hashlib.sha256(b"".join(one.detach().numpy().tobytes() for one in model.parameters())).hexdigest())
"""


def train(seed: int) -> list[str]:
    """The losses, and what the weights hash to."""
    command = [sys.executable, "-c", TRAIN, str(ROOT / "trainer/programs/lm"), str(seed), "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **ENVIRONMENT})
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights() -> None:
    first = train(1)
    assert len(first) > 2
    assert train(1) == first
    assert not set(train(2)) & set(first)
