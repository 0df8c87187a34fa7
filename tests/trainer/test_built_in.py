"""The built-in program, from its data to a score, in a sandbox."""

import math
import tempfile
from pathlib import Path

import pytest

from trainer.data import prepare
from trainer.device import detect
from trainer.experiment import Trainer
from trainer.job import Caps, Job, Progress
from trainer.program import load_program
from trainer.sandbox import Bubblewrap, Sandbox, Unsafe

#: Shared with the benchmarks: half a minute of tokenising that is the same every time.
CACHE = Path(tempfile.gettempdir()) / "waggle-bench-cache"


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_attention_to_what_comes_is_rejected(tmp_path: Path) -> None:
    program = load_program("lm-mini")
    asset = program.asset.replace(b"is_causal=True", b"is_causal=False")
    assert asset != program.asset
    made = Trainer(program, prepare(program, CACHE), Unsafe(), detect("cpu"), scratch=tmp_path, caps=Caps(wall=15.0))
    outcome = await made.run(Job(asset, 1, math.inf))
    assert outcome.status == "rejected"
    assert outcome.failure == "logits depend on later tokens: the model is not causal"


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_lm_mini_is_trained_and_scored(tmp_path: Path, sandbox: Sandbox) -> None:
    program = load_program("lm-mini")
    made = Trainer(
        program, prepare(program, CACHE), sandbox, detect("cpu"), scratch=tmp_path, caps=Caps(wall=15.0)
    )
    seen: list[Progress] = []
    bar = math.inf if isinstance(sandbox, Bubblewrap) else None
    outcome = await made.run(Job(program.asset, 1, bar), seen.append)
    assert outcome.status == "scored", outcome.failure
    assert outcome.metric is not None
    assert 1.5 < outcome.metric < 2.5
    assert outcome.metric_se is not None
    assert 0 < outcome.metric_se < 0.1
    assert 15 < outcome.cpu_seconds < 22
    assert 20 < len(outcome.curve) <= 64
    assert outcome.curve[0][1] > outcome.curve[-1][1]
    if isinstance(sandbox, Bubblewrap):
        assert outcome.holdout is not None
        assert abs(outcome.holdout - outcome.metric) < 0.3
    assert {progress.phase for progress in seen} == {"starting", "training", "examining"}
