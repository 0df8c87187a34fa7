"""Every way a run can end, each by a real child, and nothing left behind."""

import math
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from protocol.errors import UserError
from protocol.statements import Status
from tests.programs.variants import NUMBERS, write_numbers
from tests.trainer.kit import CAPS, CPU, script_program, trainer
from trainer.curve import POINTS
from trainer.data import Data
from trainer.experiment import Trainer
from trainer.job import Caps, Job, Outcome, Progress
from trainer.log import FAILURE_BYTES, HEAD_BYTES, STREAM_BYTES, TAIL_BYTES, Log
from trainer.program import load_program
from trainer.sandbox import Sandbox, Unsafe

BRIEF = Caps(startup=2.0, exam=-0.5, grace=0.2, wall=1.5)

Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script as a candidate, without a sandbox: what it does is the test's own."""

    async def run(script: str, caps: Caps = CAPS, **changes: object) -> Outcome:
        job = {
            key: changes.pop(key) for key in ("bar", "stop_early", "incumbent_curve") if key in changes
        }
        callbacks = {key: changes.pop(key) for key in ("on_progress", "on_output") if key in changes}
        program = script_program(tmp_path / "program", script, **changes)  # type: ignore[arg-type]
        made = trainer(tmp_path, program, caps=caps)
        outcome = await made.run(Job(program.asset, 5, **job), **callbacks)  # type: ignore[arg-type]
        assert list((tmp_path / "scratch").iterdir()) == []
        return outcome

    return run


# ---- scored


async def test_the_numbers_program_is_scored_in_each_sandbox(tmp_path: Path, sandbox: Sandbox) -> None:
    made = trainer(tmp_path, load_program(NUMBERS), sandbox)
    seen: list[Progress] = []
    outcome = await made.run(Job(made.program.asset, 7), on_progress=seen.append)
    again = await made.run(Job(made.program.asset, 7))
    other = await made.run(Job(made.program.asset, 8))
    assert outcome.status is Status.SCORED
    assert outcome.metric == again.metric != other.metric
    assert outcome.metric_se == 0.0
    assert outcome.holdout is None
    assert outcome.failure == ""
    assert len(outcome.curve) == 1
    assert outcome.limit == ""
    assert outcome.exam_seconds > 0
    assert outcome.peak_memory > 1 << 20
    assert outcome.overhead_seconds > 0
    assert {progress.phase for progress in seen} >= {"starting", "training"}
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_a_better_asset_scores_better_by_the_goal(tmp_path: Path) -> None:
    for goal, sign in (("minimize", 1), ("maximize", -1)):
        made = trainer(tmp_path, load_program(write_numbers(tmp_path / goal, goal=goal, noise=0.001)))
        better = made.program.asset.replace(b'"plain", "choices"', b'"better", "choices"')
        base, best = [await made.run(Job(asset, 1)) for asset in (made.program.asset, better)]
        assert base.metric is not None
        assert best.metric is not None
        assert sign * (base.metric - best.metric) == pytest.approx(0.1)


async def test_hold_out_is_scored_of_what_beats_the_bar(run: Run) -> None:
    evaluator = """
def examine(exam):
    exam.ask({})
    return {"metric": float((exam.data / "value").read_text())}
"""
    files = {"data/validation/value": "1.5", "data/holdout/value": "2.5"}
    for bar, holdout in ((None, None), (1.5, None), (1.6, 2.5), (math.inf, 2.5), (-math.inf, None)):
        outcome = await run("", evaluator=evaluator, files=files, bar=bar)
        assert (outcome.metric, outcome.metric_se, outcome.holdout) == (1.5, None, holdout)
    outcome = await run("", evaluator=evaluator, files=files, goal='"maximize"', bar=1.4)
    assert (outcome.metric, outcome.holdout) == (1.5, 2.5)


async def test_data_arrive_when_the_clock_starts(run: Run) -> None:
    files = {"data/train/a.txt": "some text", "data/train/deep/b.bin": "", "data/validation/x": "x"}
    script = """
def train(run):
    assert run.fraction() >= 0 and run.clock == "cpu" and run.threads == 1 and run.seed == 5
    return [(name, bytes(array), array.flags.writeable) for name, array in sorted(run.data.items())]

def answer(trained, question):
    assert trained == [("a.txt", b"some text", False), ("deep/b.bin", b"", False)], trained
    return {"metric": 1.0}
"""
    loaded_too_early = "import os\nassert not os.path.exists('data')\n"
    outcome = await run(loaded_too_early + script, files=files)
    assert outcome.status is Status.SCORED, outcome.failure


async def test_the_clock_is_the_trainers(run: Run) -> None:
    script = """
def train(run):
    run._start += 1000   # a candidate that turns its own clock back
    sum(i * i for i in range(3_000_000))
    import time
    time.sleep(0.3)
    for i in range(1000):
        run.report(1 / (i + 1))
"""
    outcome = await run(script)
    assert outcome.status is Status.SCORED, outcome.failure
    assert 0.05 < outcome.cpu_seconds < outcome.wall_seconds
    assert outcome.wall_seconds >= 0.3


async def test_an_honest_runner_ends_with_its_budget(run: Run) -> None:
    script = """
def train(run):
    while run.fraction() < 1:
        run.report(2 - run.fraction())
"""
    outcome = await run(script)
    assert outcome.status is Status.SCORED, outcome.failure
    assert outcome.cpu_seconds == pytest.approx(1.0, abs=0.15)
    assert 4 <= len(outcome.curve) <= POINTS
    fractions = [fraction for fraction, _ in outcome.curve]
    assert fractions == sorted(fractions)
    assert all(loss == pytest.approx(2 - fraction, abs=0.05) for fraction, loss in outcome.curve)


# ---- not scored


CRASHES = [
    ("def train(run):\n    raise ValueError('what went wrong')", "ValueError: what went wrong"),
    ("raise ImportError('at import')", "ImportError: at import"),
    ("def train(run:\n", "SyntaxError"),
    ("def train(run):\n    raise SystemExit(0)", "SystemExit: 0"),
    ("import os\ndef train(run):\n    print('last words', flush=True)\n    os._exit(3)", "exit status 3"),
    ("import os\ndef train(run):\n    print('last words', flush=True)\n    os._exit(3)", "last words"),
    ("import os, signal\ndef train(run):\n    os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
    ("def answer(trained, question):\n    raise KeyError('question')", "KeyError: 'question'"),
    ("import os\ndef answer(trained, question):\n    os._exit(4)", "exit status 4"),
    ("def answer(trained, question):\n    return {'metric': object()}", "cannot send"),
    ("def train(run):\n    bytearray(3 << 30)", "MemoryError"),
]


@pytest.mark.parametrize(("script", "words"), CRASHES, ids=[words for _, words in CRASHES])
async def test_crashed(run: Run, script: str, words: str) -> None:
    outcome = await run(script)
    assert outcome.status is Status.CRASHED
    assert words in outcome.failure
    assert outcome.metric is None


async def test_a_long_failure_keeps_its_end(run: Run) -> None:
    outcome = await run("def train(run):\n    raise ValueError('é' * 5000 + 'the end')")
    assert outcome.failure.rstrip().endswith("the end")
    assert 1000 < len(outcome.failure.encode()) <= FAILURE_BYTES


async def test_a_failure_does_not_tell_where_it_was(run: Run, tmp_path: Path) -> None:
    outcome = await run("def train(run):\n    raise ValueError(__file__)")
    assert "files/train.py" in outcome.failure
    assert str(tmp_path) not in outcome.failure
    assert str(Path.home()) not in outcome.failure


async def test_processes_are_bounded(run: Run) -> None:
    script = """
import os, time
def train(run):
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    time.sleep(60)
"""
    begun = time.monotonic()
    outcome = await run(script, memory='"64 GiB"')  # shared pages count for each process
    assert outcome.status is Status.CRASHED
    assert "processes, 128 are granted" in outcome.failure
    assert outcome.limit == "processes"
    assert time.monotonic() - begun < 30


async def test_memory_of_the_tree_is_bounded(run: Run) -> None:
    script = """
import mmap, os
def train(run):
    for _ in range(3):
        shared = mmap.mmap(-1, 120 << 20)   # not data in the kernel's sense: RLIMIT_DATA does not see it
        if os.fork() == 0:
            break
    for at in range(0, 120 << 20, 4096):
        shared[at] = 1
    import time
    time.sleep(30)
"""
    outcome = await run(script, memory='"256 MiB"')
    assert outcome.status is Status.CRASHED
    assert "256 MiB are granted" in outcome.failure
    assert outcome.limit == "memory"
    assert outcome.peak_memory > 256 << 20


TIMEOUTS = [
    ("import time\ndef train(run):\n    time.sleep(60)", "wall seconds for 0.0 of 1 cpu seconds"),
    ("import time\ndef answer(trained, question):\n    time.sleep(60)", "still examining after 0.5 s"),
]


async def test_a_start_takes_no_longer_than_its_cap(run: Run) -> None:
    outcome = await run("", files={"runner.py": "import time\ntime.sleep(60)"}, caps=BRIEF)
    assert outcome.status is Status.TIMED_OUT
    assert "still starting after 2 s" in outcome.failure
    assert outcome.limit == "startup"


@pytest.mark.parametrize(("script", "words"), TIMEOUTS, ids=["training", "examining"])
async def test_timed_out(run: Run, script: str, words: str) -> None:
    outcome = await run(script, caps=replace(BRIEF, startup=60.0))
    assert outcome.status is Status.TIMED_OUT
    assert words in outcome.failure


BURN = """
    end = time.time() + 20
    while time.time() < end:
        pass
"""
OVERRUNS = [
    pytest.param("import time\ndef train(run):" + BURN, id="itself"),
    pytest.param(
        """
import time
def train(run):
    while time.process_time() < 1.8:
        pass
""",
        id="ends late",
    ),
    pytest.param(
        """
import os, time
def train(run):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
"""
        + BURN,
        id="child",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        """
import os, time
def train(run):
    if os.fork():
        time.sleep(20)
    if os.fork() or os.fork():
        os._exit(0)
    os.setsid()
"""
        + BURN,
        id="orphans",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        """
import os, time
def train(run):
    while True:
        pid = os.fork()
        if not pid:
            end = time.time() + 0.02
            while time.time() < end:
                pass
            os._exit(0)
        os.waitpid(pid, 0)
""",
        id="brief children",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        """
import os, signal, time
def train(run):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        if not os.fork():
            end = time.time() + 0.3
            while time.time() < end:
                pass
            os._exit(0)
        time.sleep(0.3)
""",
        id="unwaited children",
    ),
]


@pytest.mark.parametrize("script", OVERRUNS)
async def test_overran(run: Run, script: str) -> None:
    outcome = await run(script)
    assert outcome.status is Status.OVERRAN, outcome.failure
    assert "cpu seconds of a budget of 1" in outcome.failure
    assert outcome.cpu_seconds < 2.5


async def test_threads_that_burn_overrun(run: Run) -> None:
    script = """
import threading
import numpy as np
def train(run):
    def burn():
        a = np.ones((300, 300))
        while True:
            a @ a
    for _ in range(3):
        threading.Thread(target=burn, daemon=True).start()
    import time
    time.sleep(60)
"""
    outcome = await run(script)
    assert outcome.status is Status.OVERRAN, outcome.failure


async def test_overran_by_the_wall_clock(run: Run) -> None:
    outcome = await run("import time\ndef train(run):\n    time.sleep(60)", clock='"wall"')
    assert outcome.status is Status.OVERRAN
    assert "wall seconds of a budget of 1" in outcome.failure
    assert outcome.limit == "budget"


REJECTED = [
    ("def answer(trained, question):\n    return {'metric': float('nan')}", None, "expected a finite number"),
    (
        "def answer(trained, question):\n    return {'metric': 'low'}",
        None,
        "the evaluator failed: ValueError",
    ),
    ("", "def examine(exam):\n    raise exam.Reject('looks like a cheat')", "looks like a cheat"),
    ("", "def examine(exam):\n    return exam.nothing", "the evaluator failed: AttributeError"),
    ("", "def examine(exam):\n    import os\n    os._exit(1)", "the examiner ended without a score"),
    ("", "raise ImportError('no such module')", "the evaluator failed: ImportError"),
]


@pytest.mark.parametrize(("script", "evaluator", "words"), REJECTED, ids=[words for *_, words in REJECTED])
async def test_rejected(run: Run, script: str, evaluator: str | None, words: str) -> None:
    changes = {"evaluator": evaluator} if evaluator else {}
    outcome = await run(script, **changes)
    assert outcome.status is Status.REJECTED
    assert words in outcome.failure
    assert outcome.metric is None


HOSTILE = [
    ("run._control.sendall(b'\\xff' * 100)", "a frame of 4294967295 bytes"),
    ("run._control.sendall(b'\\0\\0\\0\\4abcd')", "not a frame"),
    ("run._control.sendall(b'\\0\\0\\0\\x07\\x81\\xa4type\\x01')", "it has no type"),
    ("frames.send(run._control, {'type': 'score', 'metric': 0.0})", "'score', out of turn"),
    (
        "frames.send(run._control, {'type': 'progress', 'fraction': 'x', 'loss': 0})",
        "fraction: expected a finite",
    ),
    (
        "frames.send(run._control, {'type': 'progress', 'fraction': 0, 'loss': float('nan')})",
        "loss: expected",
    ),
    (
        "[frames.send(run._control, {'type': 'progress', 'fraction': 0, 'loss': 0}) for _ in range(20000)]",
        "10001",
    ),
]


@pytest.mark.parametrize(("line", "words"), HOSTILE, ids=[words for _, words in HOSTILE])
async def test_hostile_frames_are_rejected(run: Run, line: str, words: str) -> None:
    script = f"import time\nfrom inside import frames\ndef train(run):\n    {line}\n    time.sleep(30)"
    outcome = await run(script, caps=Caps(wall=20.0))
    assert outcome.status is Status.REJECTED, outcome
    assert "the candidate broke the protocol" in outcome.failure
    assert words in outcome.failure
    assert "\n" not in outcome.failure


ANSWERS = {
    "giant": ("exam.sendall(b'\\xff' * 50)", Status.REJECTED, "a frame of 4294967295 bytes"),
    "rubbish": ("exam.sendall(b'\\0\\0\\0\\4abcd')", Status.REJECTED, "the candidate's answer is not a frame"),
    "no map": ("exam.sendall(b'\\0\\0\\0\\1\\x90')", Status.REJECTED, "expected a map with string keys"),
    "an array that lies": (
        "exam.sendall(b'\\0\\0\\0\\x17\\x82\\xa4type\\xa1x\\xa1a\\xc7\\x0a\\x01\\x04\\x02' + b'\\xff' * 8)",
        Status.REJECTED, "an array of shape",
    ),
    "cut": ("exam.sendall(b'\\0\\0\\0\\x64abc'); exam.shutdown(2)", Status.REJECTED, "closed within a frame"),
    "none": ("exam.shutdown(2)", Status.CRASHED, "hung up on its examiner"),
    "slow": (
        "exam.sendall(b'\\0\\1\\0\\0'); [(exam.sendall(b'x'), time.sleep(0.05)) for _ in range(1000)]",
        Status.TIMED_OUT, "still examining after",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("line", "status", "words"), ANSWERS.values(), ids=ANSWERS)
async def test_hostile_answers(run: Run, line: str, status: Status, words: str) -> None:
    script = f"""
import sys, time
def answer(trained, question):
    frame = sys._getframe()
    while "exam" not in frame.f_locals:
        frame = frame.f_back
    exam = frame.f_locals["exam"]
    {line}
    time.sleep(30)
"""
    outcome = await run(script, caps=Caps(exam=3.0 if status is Status.TIMED_OUT else 60.0, grace=0.5, wall=20.0))
    assert outcome.status is status, outcome
    assert words in outcome.failure
    assert "\n" not in outcome.failure


async def test_a_candidate_that_closes_early_has_crashed(run: Run) -> None:
    outcome = await run("import time\ndef train(run):\n    run._control.shutdown(2)\n    time.sleep(30)")
    assert outcome.status is Status.CRASHED
    assert "the candidate hung up while training" in outcome.failure


async def test_descriptors_that_it_sends_go_nowhere(run: Run) -> None:
    script = """
import os, socket
from inside import frames
def train(run):
    body = frames.encode({"type": "progress", "fraction": 0.5, "loss": 1.0})
    socket.send_fds(run._control, [body], [os.open("/dev/zero", os.O_RDONLY) for _ in range(100)])
"""
    before = len(os.listdir("/proc/self/fd"))
    outcome = await run(script)
    assert outcome.status is Status.SCORED, outcome.failure
    assert len(os.listdir("/proc/self/fd")) == before


async def test_stopped_early_where_it_is_clearly_behind(run: Run) -> None:
    script = """
def train(run):
    while run.fraction() < 1:
        run.report(3.0)
"""
    incumbent = [(i / 64, 2.5 - i / 64) for i in range(65)]
    outcome = await run(script, stop_early=True, incumbent_curve=incumbent)
    assert outcome.status is Status.STOPPED_EARLY
    assert "behind the incumbent at " in outcome.failure
    assert outcome.cpu_seconds < 0.9
    outcome = await run(script, incumbent_curve=incumbent)
    assert outcome.status is Status.SCORED


# ---- output


async def test_output_is_streamed_and_capped(run: Run) -> None:
    parts: list[bytes] = []
    script = "def train(run):\n    print('first')\n    print('x' * 3_000_000)\n    raise ValueError('last')"
    outcome = await run(script, on_output=parts.append)
    streamed = b"".join(parts)
    assert streamed.startswith(b"first\n")
    assert STREAM_BYTES <= len(streamed) < STREAM_BYTES + 100
    assert streamed.endswith(b"[more output is not shown]\n")
    assert "ValueError: last" in outcome.failure


def test_a_log_keeps_head_and_tail() -> None:
    log = Log()
    for part in (b"begin", b"x" * (HEAD_BYTES + TAIL_BYTES), b"end"):
        log.add(part)
    assert log.kept.startswith(b"begin")
    assert log.kept.endswith(b"end")
    assert b"[8 bytes dropped]" in log.kept
    assert log.total == HEAD_BYTES + TAIL_BYTES + 8


# ---- nothing left behind


def processes_named(name: str) -> list[int]:
    """Processes of this machine that call themselves ``name``."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                comm = Path("/proc", entry, "comm").read_text().strip()
                state = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if comm == name and state != "Z":
                found.append(int(entry))
    return found


def daemon(name: str, then: str) -> str:
    """A script that leaves a process behind which nothing ties to it but its name."""
    return f"""
import ctypes, os, signal, time
def train(run):
    ready, done = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, 32):
                if number not in (signal.SIGKILL, signal.SIGSTOP):
                    signal.signal(number, signal.SIG_IGN)
            ctypes.CDLL(None).prctl(15, {name!r}.encode())   # PR_SET_NAME
            os.write(done, b"x")
            time.sleep(1000)
        os._exit(0)
    os.read(ready, 1)
    run.report(1.0)
{then}
"""


@pytest.fixture(params=["sandboxed", "unsafe"])
def any_sandbox(request: pytest.FixtureRequest, sandbox: Sandbox) -> Sandbox:
    return sandbox if request.param == "sandboxed" else Unsafe()


@pytest.mark.parametrize("then", ["    return None", "    os._exit(1)", "    while True: pass"])
async def test_no_process_is_left(tmp_path: Path, any_sandbox: Sandbox, then: str) -> None:
    name = f"wgl{os.getpid()}x{abs(hash(tmp_path)) % 10**5}"
    program = script_program(tmp_path / "program", daemon(name, then))
    seen: list[int] = []

    def count(progress: Progress) -> None:
        if progress.loss is not None:
            seen.extend(processes_named(name))

    outcome = await trainer(tmp_path, program, any_sandbox).run(Job(program.asset, 1), on_progress=count)
    assert seen or "_exit" in then
    assert outcome.status in (Status.SCORED, Status.CRASHED, Status.OVERRAN), outcome.failure
    assert processes_named(name) == []
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_cancelling_leaves_nothing(tmp_path: Path, any_sandbox: Sandbox) -> None:
    name = f"wgl{os.getpid()}c{abs(hash(tmp_path)) % 10**5}"
    program = script_program(tmp_path / "program", daemon(name, "    time.sleep(1000)"))
    with trio.CancelScope() as scope:

        def cancel_in_training(progress: Progress) -> None:
            if progress.loss is not None:
                assert processes_named(name) != []
                scope.cancel()

        await trainer(tmp_path, program, any_sandbox).run(
            Job(program.asset, 1), on_progress=cancel_in_training
        )
    assert scope.cancelled_caught
    assert processes_named(name) == []
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_what_a_killed_node_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / "scratch" / "run-999999999-x"
    (left / "deep").mkdir(parents=True)
    (left / "deep").chmod(0)
    made = trainer(tmp_path, load_program(NUMBERS))
    await made.run(Job(made.program.asset, 1))
    assert not left.exists()


# ---- ours and the user's


async def test_a_sandbox_that_cannot_start_is_said(tmp_path: Path) -> None:
    from trainer.sandbox import Bubblewrap

    made = trainer(tmp_path, load_program(NUMBERS), Bubblewrap("/nowhere/bwrap"))
    with pytest.raises(UserError, match="cannot run in sandbox bubblewrap"):
        await made.run(Job(made.program.asset, 1))


def test_too_many_files_to_hand_over(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / str(number)).write_bytes(b"")
    with pytest.raises(UserError, match="300 files"):
        Trainer(load_program(NUMBERS), Data(train=tmp_path), Unsafe(), CPU, scratch=tmp_path)


async def test_runs_side_by_side_do_not_meet(tmp_path: Path) -> None:
    made = trainer(tmp_path, load_program(NUMBERS))
    metrics: dict[int, float | None] = {}

    async def one(seed: int) -> None:
        metrics[seed] = (await made.run(Job(made.program.asset, seed))).metric

    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for seed in range(4):
            nursery.start_soon(one, seed)
    assert len(set(metrics.values())) == 4
    assert time.monotonic() - began < 60
