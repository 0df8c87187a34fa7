"""A joined program's evaluator is a stranger's code: it is contained, and whatever it says ends in a status."""

import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from protocol.statements import Status
from tests.trainer.kit import CAPS, script_program, trainer
from trainer.job import Caps, Job, Outcome
from trainer.sandbox import Sandbox

Run = Callable[..., Awaitable[Outcome]]
BRIEF = Caps(startup=60.0, exam=1.0, grace=0.5, wall=20.0)
SECRET = "the node's own secret"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    async def run(evaluator: str, sandbox: Sandbox | None = None, caps: Caps = CAPS, **files: str) -> Outcome:
        program = script_program(tmp_path / "program", evaluator=evaluator, files=files)
        outcome = await trainer(tmp_path, program, sandbox, caps).run(Job(program.asset, 5))
        assert list((tmp_path / "scratch").iterdir()) == []
        return outcome

    return run


# ---- it tries to get out

ESCAPES = """
import json, os, signal, socket

def tries():
    address, port, home, pid = {given!r}
    def connect():
        with socket.create_connection((address, port), 2) as talk:
            talk.sendall(b"from the evaluator")
    def datagram():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talk:
            talk.sendto(b"from the evaluator", (address, port))
            raise OSError("nobody can tell that it arrived")
    yield "network", connect
    yield "datagram", datagram
    yield "secret", lambda: open(os.path.join(home, "secret")).read()
    yield "write", lambda: open(os.path.join(home, "written"), "w").write("x")
    yield "remove", lambda: os.unlink(os.path.join(home, "secret"))
    yield "environment", lambda: open(f"/proc/{{pid}}/environ", "rb").read(1)
    yield "memory", lambda: open(f"/proc/{{pid}}/mem", "rb").read(1)
    yield "root", lambda: open(f"/proc/{{pid}}/root/etc/passwd").read(1)
    yield "signal", lambda: os.kill(pid, signal.SIGUSR2)
    yield "own file", lambda: open(__file__, "a").write("#")
    yield "inherited", lambda: os.environ["{variable}"]

def examine(exam):
    managed = []
    for name, action in tries():
        try:
            action()
        except (OSError, KeyError):
            continue
        managed.append(name)
    raise exam.Reject("managed: " + json.dumps(managed))
"""


async def test_it_does_not_get_out(
    tmp_path: Path, run: Run, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text(SECRET)
    monkeypatch.setenv("WAGGLE_TEST_SECRET", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(type=socket.SOCK_DGRAM) as post:
        port = listener.getsockname()[1]
        post.bind(("127.0.0.1", port))
        for hears in (listener, post):
            hears.setblocking(False)
        given = ("127.0.0.1", port, str(home), os.getpid())
        outcome = await run(ESCAPES.format(given=given, variable="WAGGLE_TEST_SECRET"), sandbox)
        with pytest.raises(BlockingIOError):
            listener.accept()
        with pytest.raises(BlockingIOError):
            post.recv(100)
    assert outcome.status is Status.REJECTED
    assert outcome.failure.startswith("managed: "), outcome.failure
    assert json.loads(outcome.failure.removeprefix("managed: ")) == []
    assert [path.name for path in home.iterdir()] == ["secret"]


# ---- it says what it should not

FRAMES = """
import sys, time
from inside import frames
def control():
    outer = sys._getframe(2)
    while "control" not in outer.f_locals:
        outer = outer.f_back
    return outer.f_locals["control"]
def examine(exam):
    {0}
    time.sleep(30)
"""
SAYS = {
    "an impossible score": ("return {'metric': float('nan')}", "metric: expected a finite number"),
    "an endless score": ("return {'metric': float('-inf')}", "metric: expected a finite number"),
    "an uncertain score": ("return {'metric': 1.0, 'se': float('inf')}", "se: expected a finite number"),
    "no score": ("return {}", "the evaluator failed: KeyError"),
    "words for a score": ("return {'metric': 'the best'}", "the evaluator failed: ValueError"),
    "a giant frame": ("control().sendall(b'\\xff' * 100)", "a frame of 4294967295 bytes"),
    "rubbish": ("control().sendall(b'\\0\\0\\0\\4abcd')", "not a frame"),
    "a frame out of turn": ("frames.send(control(), {'type': 'ready'})", "a frame 'ready' from the examiner"),
    "alike before it was asked": ("frames.send(control(), {'type': 'alike'})", "a frame 'alike' from the examiner"),
    "answers without end": (
        "[frames.send(control(), {'type': 'answered'}) for _ in range(9**9)]", "a frame 'answered' from the examiner",
    ),
    "many words": ("raise exam.Reject('long ' * 100_000 + 'end\\nof it')", "long long"),
    "an error of many lines": ("raise ValueError('one\\ntwo\\n' * 1000)", "the evaluator failed: ValueError: one two"),
    "its own end": ("import os; os._exit(0)", "the examiner ended without a score"),
    "nothing more": ("control().shutdown(2)", "the examiner ended without a score"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "words"), SAYS.values(), ids=SAYS)
async def test_what_it_says_ends_in_a_status(run: Run, line: str, words: str) -> None:
    outcome = await run(FRAMES.format(line))
    assert outcome.status is Status.REJECTED, outcome
    assert words in outcome.failure
    assert "\n" not in outcome.failure
    assert outcome.metric is None


async def test_a_score_that_it_forges_out_of_turn_is_the_only_one(run: Run) -> None:
    """It may say of its own program what it likes; it can't say it twice, nor of another run."""
    line = "frames.send(control(), {'type': 'score', 'metric': 0.5, 'se': 0.0}); return {'metric': 0.25}"
    outcome = await run(FRAMES.format(line))
    assert (outcome.status, outcome.metric) == (Status.SCORED, 0.5)


HANGS = {
    "in its exam": "def examine(exam):\n    time.sleep(60)",
    "on import": "time.sleep(60)",
    "busily": "def examine(exam):\n    while True: pass",
    "asking for ever": "def examine(exam):\n    while True: exam.ask({})",
}


@pytest.mark.parametrize("evaluator", HANGS.values(), ids=HANGS)
async def test_it_hangs(run: Run, evaluator: str) -> None:
    outcome = await run("import time\n" + evaluator, caps=BRIEF)
    assert outcome.status is Status.TIMED_OUT
    assert "still examining after" in outcome.failure


async def test_it_takes_all_memory(run: Run) -> None:
    outcome = await run("def examine(exam):\n    hold = [bytearray(1 << 26) for _ in range(100)]")
    assert outcome.status is Status.REJECTED
    assert "MemoryError" in outcome.failure


async def test_its_children_take_all_memory(run: Run) -> None:
    evaluator = """
import os, time
def examine(exam):
    for _ in range(3):
        if os.fork() == 0:
            break
    hold = b"x" * (500 << 20)
    time.sleep(30)
"""
    outcome = await run(evaluator)
    assert outcome.status is Status.REJECTED
    assert outcome.failure == "the examiner beside it used more than 1024 MiB of memory"
