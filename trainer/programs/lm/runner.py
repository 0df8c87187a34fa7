"""The fixed side of a run: loads the asset, lets it train, and lets the model answer the examiner."""

import importlib.util
import json
import math

import numpy as np
import torch

#: The examiner's windows are this long, in tokens.
CONTEXT = 256
#: The loss that is reported is a mean over about so many of the asset's reports: single batches are noisy.
SMOOTHING = 16


class Training:
    """What the asset gets; see its docstring."""

    def __init__(self, run, vocabulary):
        self.tokens = run.data["tokens.bin"].view("<u2")
        self.vocabulary = vocabulary
        self.context = CONTEXT
        self.device = run.device
        self.seed = run.seed
        self.fraction = run.fraction
        self._report = run.report
        self._sum = self._weight = 0.0

    def report(self, loss):
        if not math.isfinite(loss):
            raise FloatingPointError(f"the training loss is {loss}")
        keep = 1 - 1 / SMOOTHING
        self._sum = keep * self._sum + loss
        self._weight = keep * self._weight + 1
        self._report(self._sum / self._weight)


def load(run):
    """Imports only: what is built from the seed belongs to the budget."""
    torch.set_num_threads(run.threads)
    vocabulary = len(json.loads((run.files / "tokenizer.json").read_bytes())["model"]["vocab"])
    spec = importlib.util.spec_from_file_location("asset", run.asset)
    asset = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(asset)
    return asset, vocabulary


def train(run):
    asset, vocabulary = run.state
    return asset.train(Training(run, vocabulary)), run.device


def answer(state, question):
    """Tokens, integers [windows, CONTEXT], to logits, float16 [windows, CONTEXT, vocabulary]."""
    model, device = state
    tokens = torch.from_numpy(question["tokens"].astype(np.int64)).to(device)
    with torch.inference_mode():
        return {"logits": model(tokens).to("cpu", torch.float16).numpy()}
