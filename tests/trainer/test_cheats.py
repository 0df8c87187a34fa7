"""Ways to a better score without a better model: each is rejected, or worth nothing.

All are real runs with the built-in evaluator; what a cheat is worth is told by the honest run beside it.
"""

import base64
import math
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from protocol.diffs import MAX_ASSET_BYTES
from protocol.statements import Origin, Status, run_seed
from tests.trainer.kit import trainer
from tests.trainer.tiny import RUNNER, tiny_program
from trainer.job import Job, Outcome
from trainer.sandbox import Sandbox, Unsafe

Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run HONEST with a script after it, examined thoroughly."""

    program = tiny_program(tmp_path / "program")

    async def run(script: str, sandbox: Sandbox | None = None, bar: float | None = math.inf) -> Outcome:
        asset = program.asset + script.encode()
        return await trainer(tmp_path, program, sandbox or Unsafe()).run(Job(asset, 5, bar))

    return run


async def test_the_honest_model_is_scored(run: Run) -> None:
    outcome = await run("")
    assert outcome.status is Status.SCORED, outcome.failure
    assert outcome.metric is not None
    assert outcome.holdout is not None
    assert outcome.metric_se is not None
    assert 0.8 < outcome.metric < 1.2, "a guess is 2 bits per byte"
    assert abs(outcome.holdout - outcome.metric) < 4 * outcome.metric_se
    plain = await run("", bar=None)
    assert (plain.metric, plain.holdout) == (outcome.metric, None)


# ---- rejected

LOOK_AHEAD = """
class Model(Model):
    def __call__(self, tokens):
        logits = self.table[tokens].copy()
        row, at = np.nonzero(self.where(tokens))
        logits[row, at, tokens[row, at + 1]] += self.by
        return logits
    by = 8.0
    def where(self, tokens):
        return np.ones_like(tokens[:, :-1])
"""
PATCH = """
def train(run):
    import runner
    runner.answer = lambda model, question: {{"logits": wrong(np.zeros((8, 256, 64), np.float16))}}
    return Model(table(run.tokens))
def wrong(logits):
    return {0}
"""
REJECTED = {
    "looks ahead": (LOOK_AHEAD, "not causal"),
    "looks ahead a little": (LOOK_AHEAD + "Model.by = 0.09", "not causal"),
    "looks ahead now and then": (
        LOOK_AHEAD + "Model.where = lambda self, tokens: tokens[:, :-1] % 10 == 0",
        "not causal",
    ),
    "looks ahead and answers by its memory": (
        LOOK_AHEAD
        + """
class Model(Model):
    def __init__(self, table):
        self.table, self.known = table, {}
    def __call__(self, tokens):
        logits = super().__call__(tokens)
        for row, window in enumerate(tokens):
            logits[row] = self.known.setdefault(window[:4].tobytes(), logits[row])
        return logits
""",
        "",
    ),
    "saves an honest model": (
        LOOK_AHEAD
        + """
class Honest:
    def __init__(self, table):
        self.table = table
    def __call__(self, tokens):
        return self.table[tokens]
Model.__reduce__ = lambda self: (Honest, (self.table,))
""",
        "a fresh copy answers otherwise",
    ),
    "learns from the questions": (
        """
class Model(Model):
    def __call__(self, tokens):
        for window in tokens:
            np.add.at(self.table, (window[:-1], window[1:]), 0.2)
        return self.table[tokens]
""",
        "learns from the questions",
    ),
    "learns, and remembers what it said": (
        """
class Model(Model):
    said = {}
    def __call__(self, tokens):
        new = [window for window in tokens if window.tobytes() not in self.said]
        for window in new:
            self.said[window.tobytes()] = self.table[window].copy()
        for window in new:
            np.add.at(self.table, (window[:-1], window[1:]), 0.2)
        return np.array([self.said[window.tobytes()] for window in tokens])
""",
        "a fresh copy answers otherwise",
    ),
    "trains on in its exam": (
        """
import threading, time
class Model(Model):
    def __reduce__(self):
        return Model, (self.table,)
def train(run):
    model = Model(np.zeros((64, 64), np.float32))
    better = table(run.tokens)
    def go_on():
        while True:
            time.sleep(0.01)
            model.table = model.table + (better - model.table) * 0.05
    threading.Thread(target=go_on, daemon=True).start()
    return model
""",
        "",
    ),
    "not a number": (PATCH.format("logits * np.nan"), "not finite"),
    "infinite": (PATCH.format("logits + np.inf"), "not finite"),
    "infinitely sure that not": (PATCH.format("logits - np.inf"), "not finite"),
    "numbers of another kind": (PATCH.format("logits.astype(np.float64)"), "expected logits, float16"),
    "words": (PATCH.format("'the best'"), "expected logits, float16"),
    "nothing": (PATCH.format("None"), "expected logits, float16"),
    "a smaller vocabulary": (PATCH.format("logits[:, :, :2]"), "expected logits, float16 of shape (8, 256, 64)"),
    "a larger vocabulary": (PATCH.format("logits.repeat(2, axis=2)"), "expected logits, float16"),
    "fewer windows": (PATCH.format("logits[:1]"), "expected logits, float16"),
    "no positions": (PATCH.format("logits[:, :0]"), "expected logits, float16"),
}


@pytest.mark.parametrize(("script", "words"), REJECTED.values(), ids=REJECTED)
async def test_rejected(run: Run, script: str, words: str) -> None:
    outcome = await run(script)
    assert outcome.status is Status.REJECTED, outcome
    assert words in outcome.failure
    assert "\n" not in outcome.failure
    assert (outcome.metric, outcome.holdout) == (None, None)


# ---- over the budget

OVERRAN = {
    "before it takes the clock seriously": "import time\nwhile time.process_time() < 5: pass",
    "in training": "def train(run):\n    while True: run._start = run._now()",
    "while it saves": "import time\nModel.__reduce__ = lambda self: [1 for _ in iter(time.process_time, -1)]",
    "in its first answer": """
import time
class Model(Model):
    def __call__(self, tokens):
        while time.process_time() < 5:
            pass
        return self.table[tokens]
""",
}


@pytest.mark.parametrize("script", OVERRAN.values(), ids=OVERRAN)
async def test_training_for_longer_overruns(run: Run, script: str) -> None:
    outcome = await run(script)
    assert outcome.status is Status.OVERRAN, outcome
    assert "cpu seconds of a budget of 1" in outcome.failure
    assert outcome.metric is None


async def test_nothing_of_the_candidate_is_there_before_the_clock_starts(tmp_path: Path) -> None:
    spying = """
import os
def load(run):
    found = [name for folder, _, names in os.walk(run.files) for name in names]
    assert "runner.py" in found and run.asset.name not in found and not run.data, found
"""
    program = tiny_program(tmp_path / "program", runner=RUNNER + spying)
    outcome = await trainer(tmp_path, program).run(Job(program.asset, 5))
    assert outcome.status is Status.SCORED, outcome.failure


# ---- worth nothing

#: Run as the honest model's train() does, before it.
IN_VAIN = {
    "prints a score": "print('val_bpb: 0.1', flush=True)",
    "reports a loss": "run.report(-1e9)",
    "reports progress": """
from inside import frames
frames.send(run._control, {"type": "progress", "fraction": -5, "loss": -1e9})
frames.send(run._control, {"type": "progress", "fraction": 1e9, "loss": -1e9})
""",
    "chooses its seed": "run.seed = 137",
    "wraps the frames": """
from inside import frames
send = frames.send
def forge(sock, message, limit=frames.MAX_FRAME):
    return send(sock, {**message, "metric": 0.1, "se": 0.0, "score": 0.1}, limit)
frames.send = forge
""",
    "wraps what computes the score, in its own process": """
np.log = lambda x, log=np.log: log(x)
np.exp = lambda *_, **__: 0.0
""",
    "changes what it has sent": """
import runner, threading, time
plain, sent = runner.answer, []
def answer(model, question):
    sent.append(plain(model, question))
    return sent[-1]
runner.answer = answer
def change_later():
    while len(sent) < 3:
        time.sleep(0.001)
    said = sent[0]["logits"]
    said[:] = 60000.0
threading.Thread(target=change_later, daemon=True).start()
""",
}


@pytest.mark.parametrize("lines", IN_VAIN.values(), ids=IN_VAIN)
async def test_worth_nothing(run: Run, lines: str) -> None:
    body = "\n".join(f"    {line}" for line in lines.strip().splitlines())
    outcome, honest = await run(f"def train(run):\n{body}\n    return Model(table(run.tokens))"), await run("")
    assert outcome.status is Status.SCORED, outcome.failure
    assert (outcome.metric, outcome.metric_se) == (honest.metric, honest.metric_se)


async def test_logits_are_normalised_by_the_examiner(run: Run) -> None:
    honest = await run("", bar=None)
    shifted = await run("Model.__call__ = lambda self, tokens: self.table[tokens] + 20", bar=None)
    sure = await run("Model.__call__ = lambda self, tokens: np.full((8, 256, 64), 60000.0)", bar=None)
    assert shifted.metric == pytest.approx(honest.metric, abs=0.01)
    assert sure.metric == pytest.approx(2.0), "all alike is six bits for three bytes"


# ---- what is not there

SEARCH = """
import os
def train(run):
    wanted, seen = open(run.asset).read().split("# ")[-1].split(), []
    for path in wanted:
        try:
            seen.append(open(path, "rb").read())
        except OSError as error:
            print(path, error)
    for root in ("/proc/self/fd", "/proc/1/fd", "/tmp", "/dev/shm", os.path.expanduser("~")):
        for folder, _, names in os.walk(root):
            for name in names:
                if name in ("token_bytes.bin", "mark"):
                    seen.append(name.encode())
    if seen:
        os._exit(9)
    return Model(table(run.tokens))
"""


async def test_validation_text_is_nowhere_to_be_found(tmp_path: Path, run: Run, sandbox: Sandbox) -> None:
    await run("")
    files = [path for path in (tmp_path / "cache").rglob("tokens.bin") if path.parent.name != "train"]
    assert len(files) == 2
    outcome, honest = await run(SEARCH + "\n# " + " ".join(map(str, files)), sandbox), await run("")
    assert outcome.status is Status.SCORED, outcome.failure
    assert (outcome.metric, outcome.holdout) == (honest.metric, honest.holdout)


LEAVE = """
import os
def train(run):
    places = [run.workspace, run.files, "/tmp", "/dev/shm", "/var/tmp", os.path.expanduser("~"), "/", os.getcwd()]
    left = 0
    for place in places:
        try:
            with open(os.path.join(place, "mark"), "w") as file:
                file.write("for the next")
            left += 1
        except OSError as error:
            print(place, error)
    for name in ("runner.py", "evaluator.py", "train.py", "program.md"):
        for place in (run.files, run.files.parent.parent / "examiner"):
            try:
                with open(place / name, "a") as file:
                    file.write("raise SystemExit")
                left = -100
            except OSError as error:
                print(name, error)
    assert left > 0
    return Model(table(run.tokens))
"""


async def test_nothing_is_left_for_the_next_run_and_fixed_files_stay(run: Run, sandbox: Sandbox) -> None:
    honest = await run("")
    for script in (LEAVE, SEARCH + "\n# /tmp/mark /dev/shm/mark /var/tmp/mark /mark"):
        outcome = await run(script, sandbox)
        assert outcome.status is Status.SCORED, outcome.failure
        assert outcome.metric == honest.metric


async def test_an_exam_that_is_cut_short_is_none(run: Run) -> None:
    outcome = await run("""
class Model(Model):
    asked = 0
    def __call__(self, tokens):
        self.asked += 1
        if self.asked == 3:
            import os
            os._exit(0)
        return self.table[tokens]
""")
    assert outcome.status is Status.CRASHED
    assert outcome.metric is None


# ---- seeds, and data in disguise


def test_a_win_must_survive_other_seeds() -> None:
    commit, me, other = "a" * 40, b"\1" * 32, b"\2" * 32
    seeds = [
        run_seed(commit, author, origin, index)
        for author in (me, other)
        for origin in (Origin.AGENT, Origin.REPLICATION, Origin.CONFIRMATION)
        for index in range(3)
    ]
    assert len(set(seeds)) == len(seeds)


async def test_the_seed_is_the_runners(tmp_path: Path) -> None:
    script = "def train(run):\n    return Model(table(run.tokens) + run.seed / 1e3 * np.arange(64))"
    program = tiny_program(tmp_path / "program")
    made = trainer(tmp_path, program)
    metrics = [(await made.run(Job(program.asset + script.encode(), seed))).metric for seed in (1, 2, 1)]
    assert metrics[0] == metrics[2] != metrics[1]


@pytest.mark.parametrize("size", [17_000, 150_000, MAX_ASSET_BYTES])
async def test_data_in_the_asset_are_refused(run: Run, size: int) -> None:
    data = base64.b85encode(random.Random(1).randbytes(size)).decode()
    outcome = await run(f"DATA = {data!r}")
    assert outcome.status is Status.REJECTED
    assert "an asset of " in outcome.failure
    assert "\n" not in outcome.failure


async def test_a_long_asset_of_words_is_none_of_it(run: Run) -> None:
    outcome = await run("\n".join(f"# a line of words, number {number}" for number in range(4000)))
    assert outcome.status is Status.SCORED, outcome.failure


def test_this_suite_leaves_no_marks() -> None:
    assert not [place for place in ("/tmp", "/dev/shm", "/var/tmp", "/") if os.path.exists(f"{place}/mark")]
