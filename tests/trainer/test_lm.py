"""The built-in programs lm and lm-mini: what their files promise, and one real run in small."""

import ast
import builtins
import hashlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from trainer.data import token_bytes
from trainer.inside.candidate import import_file
from trainer.inside.examiner import Reject
from trainer.program import check_program, load_program

LM = Path(__file__).parents[2] / "trainer/programs/lm"
VOCABULARY = 2048
TOKENIZER_SHA256 = "5dcfb2c20460d805977772e3efe22a1ace14f3a829f2c092bfbd4bd860be138b"


@pytest.fixture(scope="module")
def evaluator() -> ModuleType:
    return import_file(LM / "evaluator.py", "lm_evaluator")


class FakeExam:
    """An exam over a few windows of random text, answered by ``model`` (tokens -> logits, float16).

    ``copies`` answer in its place when they are asked.
    """

    Reject = Reject
    twins = (1, 2)

    def __init__(self, folder: Path, model, windows=21, copies=None):
        rng = np.random.default_rng(5)
        self.tokens = rng.integers(VOCABULARY, size=windows * 256 + 9).astype("<u2")
        self.data, self.rng, self.asked = folder, np.random.default_rng(6), 0
        self.models = [model, *(copies or [model] * 2)]
        self.tokens.tofile(folder / "tokens.bin")
        np.full(VOCABULARY, 3, np.uint8).tofile(folder / "token_bytes.bin")

    def ask(self, question, of):
        self.asked += 1
        return {"logits": self.models[of](question["tokens"], self.asked)}


def uniform(tokens, asked):
    return np.zeros((*tokens.shape, VOCABULARY), np.float16)


@pytest.mark.parametrize("name", ["lm", "lm-mini"])
def test_the_program_parses_and_nothing_is_wrong_with_it(name):
    program = load_program(name)
    assert program.spec.name == name
    assert check_program(program) == []
    assert program.builtin


def test_lm_mini_differs_from_lm_in_its_program_md_alone():
    lm, mini = load_program("lm").files, load_program("lm-mini").files
    assert {path for path in lm if lm[path] != mini.get(path)} == {"program.md"}
    assert lm.keys() == mini.keys()


def test_the_asset_is_short():
    assert len((LM / "train.py").read_text().splitlines()) < 350


def test_the_tokenizer_is_the_one_that_the_splits_were_made_with():
    tokenizer = (LM / "tokenizer.json").read_bytes()
    assert hashlib.sha256(tokenizer).hexdigest() == TOKENIZER_SHA256
    assert len(json.loads(tokenizer)["model"]["vocab"]) == VOCABULARY == len(token_bytes(tokenizer))
    assert token_bytes(tokenizer).min() >= 1


def test_every_tunable_lies_in_its_domain():
    tunables = load_asset()
    assert len(tunables) >= 15
    for name, (value, kind, domain) in tunables.items():
        assert isinstance(value, kind), name
        if hasattr(domain, "options"):
            assert value in domain.options, name
        else:
            assert domain.low <= value <= domain.high, name


def load_asset() -> dict[str, tuple]:
    """Name -> (value, type, domain) of the annotated constants; only the assignments are executed."""
    module = import_file(LM / "tunables.py", "tunables")
    del sys.modules["tunables"]
    tree = ast.parse((LM / "train.py").read_text())
    nodes = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
    found = {}
    for node in nodes:
        kind, domain, *_ = node.annotation.slice.elts
        domain = eval(ast.unparse(domain), vars(module))
        found[node.target.id] = ast.literal_eval(node.value), getattr(builtins, kind.id), domain
    return found


def test_a_model_that_knows_nothing_gets_the_entropy_of_the_vocabulary(evaluator, tmp_path):
    exam = FakeExam(tmp_path, uniform)
    score = evaluator.examine(exam)
    assert score["metric"] == pytest.approx(math.log2(VOCABULARY) / 3)
    assert score["se"] == pytest.approx(0.0, abs=1e-9)
    assert exam.asked == math.ceil((21 + 16) / 8)


def test_the_score_is_the_same_in_whatever_order_windows_come(evaluator, tmp_path):
    table = np.random.default_rng(7).normal(size=(VOCABULARY, VOCABULARY)).astype(np.float16)
    scores = set()
    for seed in (1, 2):
        exam = FakeExam(tmp_path, lambda tokens, asked: table[tokens])
        exam.rng = np.random.default_rng(seed)
        scores.add(json.dumps(evaluator.examine(exam)))
    assert len(scores) == 1


def test_the_standard_error_is_that_of_the_windows(evaluator):
    rng = np.random.default_rng(8)
    sizes = rng.integers(700, 1100, size=2000)
    bits = sizes * 1.8 + rng.normal(scale=90.0, size=2000)
    score = evaluator.mean_and_error(bits, sizes)
    assert score["metric"] == pytest.approx(1.8, abs=0.01)
    assert score["se"] == pytest.approx(90.0 / 900 / math.sqrt(2000), rel=0.1)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda logits, asked: logits.astype(np.float32), "float16"),
        (lambda logits, asked: logits[:, :, :-1], "float16"),
        (lambda logits, asked: "none", "float16"),
        (lambda logits, asked: np.where(asked == 3, np.float16(np.nan), logits), "finite"),
        (lambda logits, asked: np.where(asked == 3, np.float16(-np.inf), logits), "finite"),
        (lambda logits, asked: logits + np.arange(VOCABULARY, dtype=np.float16) * asked, "learns"),
    ],
)
def test_what_is_no_honest_answer_is_rejected(evaluator, tmp_path, spoil, said):
    exam = FakeExam(tmp_path, lambda tokens, asked: spoil(uniform(tokens, asked), asked))
    with pytest.raises(Reject, match=said):
        evaluator.examine(exam)


TABLE = np.random.default_rng(7).normal(size=(VOCABULARY, VOCABULARY)).astype(np.float16)


def honest(tokens, asked):
    return TABLE[tokens]


def peeking(by, every=1):
    """Adds ``by`` to the logit of the token that comes next, at one position in ``every``."""

    def answer(tokens, asked):
        logits = TABLE[tokens]
        row, at = np.nonzero(tokens[:, :-1] % every == 0)
        logits[row, at, tokens[row, at + 1]] += np.float16(by)
        return logits

    return answer


def test_copies_of_an_honest_model_are_alike(evaluator, tmp_path):
    exam = FakeExam(tmp_path, honest)
    evaluator.examine(exam)
    evaluator.compare(exam)


@pytest.mark.parametrize(
    ("model", "copies", "said"),
    [
        (peeking(8.0), None, "not causal"),
        (peeking(0.09), None, "not causal"),
        (peeking(2.0, every=10), None, "not causal"),
        (peeking(8.0), [honest] * 2, "a fresh copy answers otherwise"),
        (peeking(0.09), [honest] * 2, "fresh copies answer worse"),
    ],
)
def test_a_model_that_looks_ahead_is_rejected(evaluator, tmp_path, model, copies, said):
    exam = FakeExam(tmp_path, model, copies=copies)
    evaluator.examine(exam)
    with pytest.raises(Reject, match=said):
        evaluator.compare(exam)


def alternatives() -> list[tuple[str, object]]:
    """Every option of every choice, and the ends of every range."""
    return [
        (name, value)
        for name, (_, _, domain) in load_asset().items()
        for value in getattr(domain, "options", None) or (domain.low, domain.high)
    ]


@pytest.fixture
def asset(monkeypatch) -> ModuleType:
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "tunables", import_file(LM / "tunables.py", "tunables"))
    return import_file(LM / "train.py", "lm_train")


def training(device: str, steps: int) -> tuple[SimpleNamespace, list[float]]:
    losses: list[float] = []
    run = SimpleNamespace(
        tokens=np.random.default_rng(1).integers(VOCABULARY, size=5000).astype("<u2"),
        vocabulary=VOCABULARY,
        context=256,
        device=device,
        seed=3,
        fraction=lambda: len(losses) / steps,
        report=losses.append,
    )
    return run, losses


@pytest.mark.slow
def test_whatever_the_domains_allow_trains(asset, monkeypatch):
    run, losses = training("cpu", 2)
    for name, value in alternatives():
        losses.clear()
        with monkeypatch.context() as patch:
            patch.setattr(asset, name, value)
            asset.train(run)
        assert losses, name
        assert all(map(math.isfinite, losses)), (name, value)


@pytest.mark.slow
def test_on_a_cpu_the_same_seed_makes_the_same_steps(asset):
    """To the last bit: what differs between two runs of a seed is how many steps their budgets hold."""
    courses = []
    for seed in (3, 3, 4):
        run, losses = training("cpu", 6)
        run.seed = seed
        asset.train(run)
        courses.append(losses)
    assert courses[0] == courses[1] != courses[2]


def test_muons_steps_are_orthogonal(asset):
    """All directions count alike: singular values near 1, times the root of rows over columns in a tall matrix."""
    import torch

    torch.manual_seed(0)
    for rows, columns in ((64, 64), (32, 128), (128, 32)):
        gradient = torch.randn(rows, columns) * torch.logspace(-3, 0, columns)
        values = torch.linalg.svdvals(asset.orthogonal(gradient)) / max(1, rows / columns) ** 0.5
        assert 0.3 < values.median() < 1.3
        assert values.max() < 1.3


@pytest.mark.slow
def test_an_accelerator_gets_a_larger_model(asset):
    import torch

    run, _ = training("meta", 1)
    model, batch = asset.build(run)
    assert batch == 64
    assert 10e6 < sum(each.numel() for each in model.parameters()) < 20e6
    tokens = torch.zeros((2, 256), dtype=torch.int64, device="meta")
    assert model(tokens).shape == (2, 256, VOCABULARY)


@pytest.mark.slow
def test_the_asset_learns_and_is_causal(tmp_path, monkeypatch):
    """On a text that repeats itself the loss falls; later tokens don't change earlier logits."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(LM))
    monkeypatch.setitem(sys.modules, "tunables", import_file(LM / "tunables.py", "tunables"))
    runner = import_file(LM / "runner.py", "lm_runner")
    words = np.random.default_rng(1).integers(VOCABULARY, size=64).astype("<u2")
    losses: list[float] = []
    run = SimpleNamespace(
        files=LM,
        asset=LM / "train.py",
        data={"tokens.bin": np.tile(words, 100).view(np.uint8)},
        device="cpu",
        seed=3,
        threads=1,
        fraction=lambda: len(losses) / 60,
        report=losses.append,
    )
    run.state = runner.load(run)
    state = runner.train(run)
    assert losses[0] > 7 > 5 > losses[-1]
    tokens = np.tile(words, 8)[None, :256]
    changed = tokens.copy()
    changed[:, 200:] = 7
    logits, others = (runner.answer(state, {"tokens": each})["logits"] for each in (tokens, changed))
    assert logits.shape == (1, 256, VOCABULARY)
    assert logits.dtype == np.float16
    assert np.array_equal(logits[:, :200], others[:, :200])
    again = runner.restore(run, runner.save(state))
    assert np.array_equal(logits, runner.answer(again, {"tokens": tokens})["logits"])


def test_what_cannot_be_saved_is_said(monkeypatch):
    pytest.importorskip("torch")
    runner = import_file(LM / "runner.py", "lm_runner")
    with pytest.raises(TypeError, match="what train returned can't be saved"):
        runner.save((lambda tokens: tokens, "cpu"))
