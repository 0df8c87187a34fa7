"""How much text an exam needs: the standard error of one metric, and of the difference between two assets.

    python tests/bench/exam_bytes.py [--seconds 20] [--program lm]

What counts is the difference, since every candidate gets the same text. Windows of one document are alike, so the
error is also given by blocks of sixteen neighbours: the truth lies between the two.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from agent.tunables import read_tunables, write_tunables  # noqa: E402
from tests.bench.record import ENVIRONMENT, machine  # noqa: E402
from trainer import data  # noqa: E402
from trainer.inside.candidate import import_file  # noqa: E402
from trainer.program import load_program  # noqa: E402

LM = ROOT / "trainer/programs/lm"
BLOCK = 16
#: As large a step as a night's search takes, so that the error of the difference is no smaller in earnest.
OTHER = {"POSITIONS": "rotary", "ACTIVATION": "relu2", "LEARNING_RATE": 2e-3}


def main() -> None:
    parser = argparse.ArgumentParser(description="The exam's error by its size.")
    parser.add_argument("--seconds", type=float, default=20.0, help="CPU seconds of training")
    parser.add_argument("--program", choices=("lm", "lm-mini"), default="lm")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "waggle-bench-cache")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    program = load_program(options.program)
    found = data.prepare(program, options.cache)
    assert found.train is not None
    assert found.validation is not None
    base = program.asset
    values = {name: tunable.value for name, tunable in read_tunables(base, "train.py").items()}
    other = write_tunables(base, "train.py", {**values, **OTHER})
    runs = [answers(asset, found.train, found.validation, options.seconds) for asset in (base, other)]
    print(f"{machine()}; {options.seconds:g} CPU s of training; {len(OTHER)} tunables apart")
    print(f"{'kB of text':>10} {'metric':>14} {'se':>7} {'blocks':>7} {'difference':>11} {'se':>7} {'blocks':>7}")
    total = runs[0][1].sum()
    for size in (100_000, 300_000, 600_000, 1_000_000):
        if size <= total:
            print(row(size, *runs))


def row(size: int, one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray]) -> str:
    count = int(np.searchsorted(one[1].cumsum(), size))
    sizes = one[1][:count]
    cells = f"{sizes.sum() / 1000:10.0f}"
    for bits in (one[0][:count], two[0][:count] - one[0][:count]):
        metric = bits.sum() / sizes.sum()
        errors = [error(bits, sizes, block) for block in (1, BLOCK)]
        cells += f" {metric:>{14 if bits is not None and metric > 1 else 11}.4f} {errors[0]:7.4f} {errors[1]:7.4f}"
    return cells


def error(bits: np.ndarray, sizes: np.ndarray, block: int) -> float:
    """Standard error of the ratio of sums, ``block`` neighbours taken as one."""
    count = len(bits) // block
    bits, sizes = (one[: count * block].reshape(count, block).sum(axis=1) for one in (bits, sizes))
    rest = bits - bits.sum() / sizes.sum() * sizes
    return math.sqrt(count / (count - 1) * float((rest**2).sum())) / float(sizes.sum())


def answers(asset: bytes, train: Path, validation: Path, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Bits and bytes of each validation window, after training in this process."""
    sys.path.insert(0, str(LM))
    runner, evaluator = import_file(LM / "runner.py", "runner"), import_file(LM / "evaluator.py", "evaluator")
    with tempfile.NamedTemporaryFile(suffix=".py") as file:
        Path(file.name).write_bytes(asset)
        run = SimpleNamespace(
            files=LM, asset=Path(file.name), seed=1, device="cpu", threads=1, report=lambda loss: None,
            data={path.name: np.fromfile(path, np.uint8) for path in train.iterdir()},
        )  # fmt: skip
        run.state = runner.load(run)
        begun = time.process_time()
        run.fraction = lambda: (time.process_time() - begun) / seconds
        state = runner.train(run)
    tokens = np.fromfile(validation / "tokens.bin", "<u2")
    token_bytes = np.fromfile(validation / "token_bytes.bin", np.uint8)
    count = (len(tokens) - 1) // evaluator.CONTEXT
    inputs = tokens[: count * evaluator.CONTEXT].reshape(count, -1)
    targets = tokens[1 : count * evaluator.CONTEXT + 1].reshape(count, -1)
    bits = [
        evaluator.surprise(runner.answer(state, {"tokens": inputs[at : at + 8]})["logits"].astype(np.float32),
                           targets[at : at + 8]).sum(axis=1) / math.log(2)
        for at in range(0, count, 8)
    ]  # fmt: skip
    return np.concatenate(bits), token_bytes[targets].sum(axis=1, dtype=np.int64)


if __name__ == "__main__":
    main()
