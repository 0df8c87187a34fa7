"""Whether torch.compile is worth its start-up on a CPU: what compiling the built-in model costs, and what it gains.

    python -m tests.bench.compile [--steps 60]

Seconds are CPU seconds, of compilers that it starts as well: they would count against a run's budget.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

LM = Path(__file__).parents[2] / "trainer" / "programs" / "lm"
BUDGETS = (20, 300)
VOCABULARY, CONTEXT, BATCH = 2048, 256, 4
#: In which the compiler meets all shapes.
FIRST_STEPS = 3


def load_asset() -> ModuleType:
    sys.path.insert(0, str(LM))
    spec = importlib.util.spec_from_file_location("asset", LM / "train.py")
    assert spec is not None
    assert spec.loader is not None
    asset = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(asset)
    return asset


def cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def seconds_of(work: Callable[[], object]) -> float:
    begun = cpu_seconds()
    work()
    return cpu_seconds() - begun


def stepper(asset: ModuleType, model: Any, call: Callable[[Any], Any]) -> Callable[[int], None]:
    """Makes so many optimizer steps on random tokens."""
    import torch
    from torch.nn import functional

    optimizer = asset.AdamW(model)

    def steps(count: int) -> None:
        for _ in range(count):
            tokens = torch.randint(0, VOCABULARY, (BATCH, CONTEXT + 1))
            loss = functional.cross_entropy(call(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
            optimizer.step(1e-3)

    return steps


def main(count: int) -> None:
    os.environ.update(OMP_NUM_THREADS="1", TORCHINDUCTOR_CACHE_DIR=tempfile.mkdtemp(prefix="waggle-compile-"))
    import torch

    torch.set_num_threads(1)
    asset = load_asset()
    model, _ = asset.build(SimpleNamespace(device="cpu", vocabulary=VOCABULARY, context=CONTEXT, seed=1))
    eager = stepper(asset, model, model)
    eager(FIRST_STEPS)
    plain = seconds_of(lambda: eager(count)) / count
    compiled = stepper(asset, model, torch.compile(model))
    first = seconds_of(lambda: compiled(FIRST_STEPS))
    fast = seconds_of(lambda: compiled(count)) / count
    print(f"eager {plain * 1000:.1f} ms a step, compiled {fast * 1000:.1f} ms; compiling took {first:.0f} s of CPU")
    for budget in BUDGETS:
        without, with_it = budget / plain, max(0.0, budget - first) / fast
        print(f"steps in a budget of {budget} s: {without:.0f} without, {with_it:.0f} with")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    main(parser.parse_args().steps)
