"""Train and score this folder's candidate without waggle: python standalone.py

Written by ``waggle export``. It plays both sides of an experiment in one process and in no sandbox: the runner's, which
trains within the budget, and the evaluator's, which asks and scores. Only numpy and what the asset imports are needed.
"""

import importlib.util
import json
import os
import secrets
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


class Reject(Exception):  # noqa: N818  what evaluators know it as
    """What an evaluator raises for an answer that can't be scored."""


class Run:
    """What the runner knows of its run."""

    def __init__(self, told):
        self.files = HERE
        self.asset = HERE / told["asset"]
        self.workspace = HERE
        self.seed = 0
        self.device = _device(told["device"])
        self.threads = 1
        self.clock = told["clock"] if self.device == "cpu" else "wall"
        self.seconds = told["seconds"]
        self.state = None
        self.data = {}
        self._now = time.process_time if self.clock == "cpu" else time.monotonic
        self._start = None
        self._told = time.monotonic()

    def begin(self, seed):
        self.seed = seed
        folder = HERE / "data" / "train"
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        self.data = {file.name: np.fromfile(file, np.uint8) for file in files}
        self._start = self._now()

    def fraction(self):
        return 0.0 if self._start is None else (self._now() - self._start) / self.seconds

    def report(self, loss):
        if time.monotonic() - self._told > 1:
            self._told = time.monotonic()
            print(f"{min(1.0, self.fraction()):4.0%} of {self.seconds:g} s, loss {loss:.4f}", flush=True)


class Exam:
    """What the evaluator may do."""

    Reject = Reject
    twins = ()
    kept = None

    def __init__(self, ask):
        folder = HERE / "data" / "validation"
        self.data = folder if folder.is_dir() else None
        self.entropy = secrets.token_bytes(32)
        self.rng = np.random.default_rng(int.from_bytes(self.entropy, "big"))
        self._ask = ask

    def ask(self, question, of=0):
        return self._ask(question)


def main():
    told = json.loads((HERE / "candidate.json").read_text())
    sys.path.insert(0, str(HERE))
    os.chdir(HERE)
    runner, evaluator = _load(told["runner"]), _load(told["evaluator"])
    run = Run(told)
    run.state = runner.load(run) if hasattr(runner, "load") else None
    run.begin(secrets.randbits(63))
    state = runner.train(run)
    score = evaluator.examine(Exam(lambda question: runner.answer(state, question)))
    metric = score["metric"] if isinstance(score, dict) else score
    print(f"{told['metric']} {metric:.6g} {told['unit']}".rstrip())
    print(f"in the swarm: {told['value']:.6g}, the mean of {told['runs']} runs on {told['tier']}")


def _load(name):
    spec = importlib.util.spec_from_file_location(Path(name).stem, HERE / name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _device(wanted):
    if wanted != "cpu":
        import torch

        if torch.cuda.is_available():
            return "cuda"
        if torch.backends.mps.is_available():
            return "mps"
    return "cpu"


if __name__ == "__main__":
    main()
