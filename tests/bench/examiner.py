"""What an examination by a process apart costs, beside the same evaluator in the candidate's own process.

    python tests/bench/examiner.py [--rounds 3] [--program lm]

The model is the built-in asset's, untrained: what it costs to ask it is the same. Probes (windows asked twice, and
what fresh copies are asked) are counted apart: they are what a process of one's own can't do at all.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.record import ENVIRONMENT, machine  # noqa: E402
from trainer import data  # noqa: E402
from trainer.inside import candidate, examiner  # noqa: E402
from trainer.inside.candidate import import_file  # noqa: E402
from trainer.program import load_program  # noqa: E402

LM = ROOT / "trainer/programs/lm"


def main() -> None:
    parser = argparse.ArgumentParser(description="The examiner's cost.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", choices=("lm", "lm-mini"), default="lm-mini")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "waggle-bench-cache")
    parser.add_argument("--serve", metavar="FD", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        runner, state = model()
        candidate._answer(runner, state, socket.socket(fileno=options.serve))
        return
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    folder = data.prepare(load_program(options.program), options.cache).validation
    assert folder is not None
    evaluator = import_file(LM / "evaluator.py", "evaluator")
    inside, (apart, child) = here(folder, evaluator), beside(folder, evaluator)
    times = [(timed(inside), timed(apart, child)) for _ in range(options.rounds)]
    repeats = share(evaluator, folder)
    wall, cpu = (
        [statistics.median(pair[side][what] for pair in times) for side in range(2)] for what in range(2)
    )
    print(f"{machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; medians of {options.rounds}")
    more = [of[1] / of[0] - 1 for of in (wall, cpu)]
    print(f"{'seconds':24} {'wall':>6} {'':6} {'cpu':>6}")
    print(f"{'in one process':24} {wall[0]:6.2f} {'':6} {cpu[0]:6.2f}")
    print(f"{'examiner apart':24} {wall[1]:6.2f} {more[0]:+6.0%} {cpu[1]:6.2f} {more[1]:+6.0%}")
    print(f"{'of both, windows again':24} {repeats:6.1%}")


def timed(action: Callable[[], object], child: int = 0) -> tuple[float, float]:
    """Wall and CPU seconds, of this process and ``child``."""
    before = time.perf_counter(), spent(child)
    action()
    return time.perf_counter() - before[0], spent(child) - before[1]


def spent(child: int) -> float:
    own = time.process_time()
    if not child:
        return own
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return own + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def model() -> tuple[Any, Any]:
    """The runner, and the state that answers."""
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(LM))
    runner = import_file(LM / "runner.py", "runner")
    asset = import_file(LM / "train.py", "asset")
    vocabulary = len(json.loads((LM / "tokenizer.json").read_bytes())["model"]["vocab"])
    made, _ = asset.build(SimpleNamespace(vocabulary=vocabulary, context=runner.CONTEXT, device="cpu"))
    return runner, (made.eval(), "cpu")


def here(folder: Path, evaluator: Any) -> Callable[[], object]:
    runner, state = model()

    class Here(examiner.Exam):
        def ask(self, question: Any, of: int = 0) -> Any:
            return runner.answer(state, question)

    return lambda: evaluator.examine(Here(folder, bytes(32)))


def beside(folder: Path, evaluator: Any) -> tuple[Callable[[], object], int]:
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        env=ENVIRONMENT,
    )
    theirs.close()
    exam = examiner.Exam(folder, bytes(32), ours)
    exam.ask({"tokens": np.zeros((8, 256), "u2")})  # torch is loaded by now
    return lambda: evaluator.examine(examiner.Exam(folder, bytes(32), ours)), child.pid


def share(evaluator: Any, folder: Path) -> float:
    """Of all windows asked, those that are asked again."""
    count = (len(np.fromfile(folder / "tokens.bin", "<u2")) - 1) // evaluator.CONTEXT
    asked = evaluator.batches(count, np.random.default_rng(0)).size
    return 1 - count / asked


if __name__ == "__main__":
    main()
