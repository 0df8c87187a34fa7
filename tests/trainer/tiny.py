"""A language model of the tests' own: the built-in evaluator, a text of 64 tokens, and no torch.

An asset is a script with ``train(run)``, which returns the model: a function from tokens to logits. HONEST is a
table of which token follows which.
"""

from pathlib import Path

import numpy as np

from tests.trainer.kit import script_program
from trainer.program import Program, load_program

VOCABULARY = 64
WINDOWS = 40

RUNNER = """
import importlib.util, pickle, sys
import numpy as np

def import_asset(run):
    spec = importlib.util.spec_from_file_location("asset", run.asset)
    asset = sys.modules["asset"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(asset)
    return asset

def train(run):
    run.tokens = run.data["tokens.bin"].view("<u2")
    return import_asset(run).train(run)

def answer(model, question):
    return {"logits": np.asarray(model(question["tokens"])).astype(np.float16)}

def save(model):
    return pickle.dumps(model)

def restore(run, saved):
    import_asset(run)
    return pickle.loads(saved)
"""
HONEST = """
import numpy as np

def table(tokens):
    counts = np.full((64, 64), 0.1)
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    return np.log(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)

class Model:
    def __init__(self, table):
        self.table = table

    def __call__(self, tokens):
        return self.table[tokens]

def train(run):
    run.report(1.0)
    return Model(table(run.tokens))
"""


def text(seed: int, windows: int = WINDOWS) -> np.ndarray:
    """Tokens of one and the same language: each has four likely followers."""
    followers = np.random.default_rng(1).integers(VOCABULARY, size=(VOCABULARY, 4))
    rng = np.random.default_rng(seed)
    tokens = [0]
    for likely, which, other in zip(
        rng.random(256 * windows), rng.integers(4, size=256 * windows), rng.integers(VOCABULARY, size=256 * windows),
        strict=True,
    ):  # fmt: skip
        tokens.append(int(followers[tokens[-1], which]) if likely < 0.9 else int(other))
    return np.array(tokens, "<u2")


def tiny_program(folder: Path, runner: str = RUNNER, evaluator: str = "", **changes: str) -> Program:
    """The program; ``changes`` replace values in program.md, ``evaluator`` is added to the built-in one."""
    scores = load_program("lm").files["evaluator.py"].decode() + evaluator
    script_program(folder, evaluator=scores, files={"train.py": HONEST, "runner.py": runner}, **changes)
    for number, split in enumerate(("train", "validation", "holdout")):
        (folder / "data" / split).mkdir(parents=True)
        text(10 + number, 4 * WINDOWS if split == "train" else WINDOWS).tofile(folder / "data" / split / "tokens.bin")
        np.full(VOCABULARY, 3, np.uint8).tofile(folder / "data" / split / "token_bytes.bin")
    return load_program(folder)
