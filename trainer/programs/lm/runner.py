"""The fixed side of a run: loads the asset, lets it train, and lets the model answer the examiner."""

import importlib.util
import io
import json
import math
import sys

import numpy as np
import torch
from torch.nn import functional

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
    """The asset is not here yet, and what is built from the seed belongs to the budget."""
    torch.set_num_threads(run.threads)
    warm_up(run.device)
    return len(json.loads((run.files / "tokenizer.json").read_bytes())["model"]["vocab"])


def warm_up(device):
    """One optimiser step of a tiny model: torch loads much when it is first used, over a second of CPU time."""
    tokens = torch.zeros(1, 8, dtype=torch.long, device=device)
    embedding, layer = torch.nn.Embedding(8, 8, device=device), torch.nn.Linear(8, 8, device=device)
    optimizer = torch.optim.AdamW([*embedding.parameters(), *layer.parameters()])
    hidden = functional.layer_norm(layer(embedding(tokens)), (8,))
    heads = hidden.view(1, 8, 2, 4).transpose(1, 2)
    hidden = functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True).transpose(1, 2).flatten(2)
    functional.cross_entropy(functional.gelu(hidden).flatten(0, 1), tokens.flatten()).backward()
    optimizer.step()
    save((layer, device))


def train(run):
    return import_asset(run).train(Training(run, run.state)), run.device


def import_asset(run):
    spec = importlib.util.spec_from_file_location("asset", run.asset)
    asset = sys.modules["asset"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(asset)
    return asset


def save(state):
    """The model as pickle writes it: weights, and classes and functions by their names in the asset."""
    data = io.BytesIO()
    try:
        torch.save(state[0], data)
    except Exception as error:
        raise TypeError(f"what train returned can't be saved: {error}") from error
    return data.getvalue()


def restore(run, saved):
    """The model in a sandbox of its own, where the asset may do what it does anyway."""
    import_asset(run)
    return torch.load(io.BytesIO(saved), map_location=run.device, weights_only=False), run.device


def answer(state, question):
    """Tokens, integers [windows, CONTEXT], to logits, float16 [windows, CONTEXT, vocabulary]."""
    model, device = state
    tokens = torch.from_numpy(question["tokens"].astype(np.int64)).to(device)
    with torch.inference_mode():
        return {"logits": model(tokens).to("cpu", torch.float16).numpy()}
