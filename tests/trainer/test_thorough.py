"""What a candidate may try with what it saves, and what a fresh copy of it may do: each ends in a status."""

import fcntl
import math
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from protocol.errors import RemoteProtocolError
from protocol.statements import Status
from tests.trainer.kit import CAPS, trainer
from tests.trainer.tiny import tiny_program
from trainer.exam import compares
from trainer.job import Caps, Job, Outcome
from trainer.program import load_program
from trainer.sandbox import Unsafe
from trainer.saved import MAX_SAVED_BYTES, Saved

Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    async def run(script: str, caps: Caps = CAPS, bar: float | None = math.inf) -> Outcome:
        program = tiny_program(tmp_path / "program")
        made = trainer(tmp_path, program, Unsafe(), caps)
        outcome = await made.run(Job(program.asset + script.encode(), 5, bar))
        assert list((tmp_path / "scratch").iterdir()) == []
        return outcome

    return run


def test_whether_a_program_compares_is_told_by_its_fixed_files() -> None:
    lm = load_program("lm")
    assert compares(lm.spec, lm.files)
    for path, name in (("runner.py", b"def save"), ("runner.py", b"def restore"), ("evaluator.py", b"def compare")):
        assert not compares(lm.spec, {**lm.files, path: lm.files[path].replace(name, b"def other")})
        assert not compares(lm.spec, {**lm.files, path: b"def broken("})


# ---- what is saved

FORGED = """
import os
from inside import frames
plain = frames.send
def forge(sock, message, limit=frames.MAX_FRAME):
    if message["type"] == "trained":
        message = {{**message, {0}}}
        {1}
    return plain(sock, message, limit)
frames.send = forge
def saved_fd():
    for fd in range(3, 100):
        try:
            if os.fstat(fd).st_size == 512 << 20:
                return fd
        except OSError:
            pass
"""
SAVED = {
    "no size": (("'saved': None", "pass"), "saved: expected a number of bytes, got None"),
    "a size that is none": (("'saved': 'all'", "pass"), "saved: expected a number of bytes, got 'all'"),
    "a negative size": (("'saved': -1", "pass"), "saved: expected a number of bytes, got -1"),
    "more than there is": (("'saved': 1 << 40", "pass"), "saved: expected a number of bytes"),
    "a map to write by later": (
        ("'x': 1", "import mmap; globals()['kept'] = mmap.mmap(saved_fd(), 4096)"),
        "what it saved can't be sealed: Device or resource busy",
    ),
    "its own seal": (("'x': 1", "import fcntl; fcntl.fcntl(saved_fd(), 1033, 1)"), "what it saved can't be sealed"),
}


@pytest.mark.parametrize(("forged", "words"), SAVED.values(), ids=SAVED)
async def test_what_is_saved_can_not_be_kept_open(run: Run, forged: tuple[str, str], words: str) -> None:
    outcome = await run(FORGED.format(*forged))
    assert outcome.status is Status.REJECTED, outcome
    assert words in outcome.failure
    assert outcome.failure.startswith("the candidate broke the protocol: ")
    assert "\n" not in outcome.failure


async def test_what_is_saved_stays_as_it_was_before_the_questions(run: Run) -> None:
    """Once it knows the questions it would write down the answers."""
    script = FORGED.format("'x': 1", "pass") + """
class Model(Model):
    def __call__(self, tokens):
        try:
            os.pwrite(saved_fd(), b"answers", 0)
        except PermissionError:
            return self.table[tokens]
        raise SystemExit("it was written to")
"""
    outcome = await run(script)
    assert outcome.status is Status.SCORED, outcome.failure


async def test_too_much_to_save(run: Run) -> None:
    outcome = await run("import mmap, runner\nrunner.save = lambda model: mmap.mmap(-1, 600 << 20)")
    assert outcome.status is Status.CRASHED
    assert f"at most {MAX_SAVED_BYTES}" in outcome.failure


async def test_what_cannot_be_saved(run: Run) -> None:
    outcome = await run("def train(run):\n    return lambda tokens: np.zeros((8, 256, 64))")
    assert outcome.status is Status.CRASHED
    assert "pickle" in outcome.failure


def test_the_kernel_holds_the_seal() -> None:
    with Saved() as saved:
        os.pwrite(saved.fd, b"weights", 0)
        for size in (0, MAX_SAVED_BYTES - 1, MAX_SAVED_BYTES + 1):
            with pytest.raises(PermissionError):
                os.ftruncate(saved.fd, size)
        saved.seal(7)
        with pytest.raises(PermissionError):
            os.pwrite(saved.fd, b"answers", 0)
        with pytest.raises(PermissionError):
            fcntl.fcntl(saved.fd, fcntl.F_ADD_SEALS, 0)
        with pytest.raises(RemoteProtocolError):
            saved.seal(7)
        assert os.pread(saved.fd, 7, 0) == b"weights"


# ---- a copy

#: The asset finds out that it is imported by a copy, and does something there.
COPY = """
import os, sys, time
frame = sys._getframe()
while frame is not None and frame.f_code.co_name != "_restore":
    frame = frame.f_back
if frame is not None:
    run = frame.f_locals["run"]
    """
COPIES = {
    "ends": ("os._exit(3)", Status.CRASHED, "exit status 3"),
    "fails": ("raise ValueError('only a copy')", Status.CRASHED, "ValueError: only a copy"),
    "floods": ("run._control.sendall(b'\\xff' * 100)", Status.REJECTED, "a frame of 4294967295 bytes"),
    "has trained already": (
        "from inside import frames; frames.send(run._control, {'type': 'trained', 'saved': 1})",
        Status.REJECTED,
        "'trained', out of turn in examining",
    ),
    "hangs": ("time.sleep(60)", Status.TIMED_OUT, "still examining"),
    "has data": ("assert not run.data, 'data'; assert run.fraction() == 0; run.seed == 0 or os._exit(4)", None, ""),
    "answers no more": (
        "Model.__call__ = lambda self, tokens: os._exit(5)", Status.CRASHED, "exit status 5",
    ),
    "answers otherwise": (
        "Model.__call__ = lambda self, tokens: self.table[tokens] * 2", Status.REJECTED,
        "a fresh copy answers otherwise",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("line", "status", "words"), COPIES.values(), ids=COPIES)
async def test_a_copy(run: Run, line: str, status: Status | None, words: str) -> None:
    exam = 4.0 if status is Status.TIMED_OUT else 60.0
    outcome = await run(COPY + line, Caps(startup=60.0, exam=exam, grace=0.5, wall=20.0))
    assert outcome.status is (status or Status.SCORED), outcome
    assert words in outcome.failure
    assert (outcome.metric is None) == (status is not None)


# ---- what is left in the workspace

LEFT = """
import os
def train(run):
    os.mkfifo("pipe")
    os.symlink({outside!r}, "link")
    os.symlink({outside!r} + "/kept", "file link")
    os.symlink("/dev/zero", "endless")
    os.symlink("loop", "loop")
    os.makedirs("deep/" * 200)
    os.mkdir("closed")
    open("closed/file", "w").close()
    os.chmod("closed", 0)
    with open("sparse", "wb") as file:
        file.truncate(1 << 30)
    return Model(table(run.tokens))
"""


async def test_links_and_pipes_in_the_workspace_lead_nowhere(run: Run, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    before = (outside / "kept").stat()
    outcome = await run(LEFT.format(outside=str(outside)))
    assert outcome.status is Status.SCORED, outcome.failure
    after = (outside / "kept").stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_size) == (before.st_mode, before.st_mtime_ns, before.st_size)
    assert [path.name for path in outside.iterdir()] == ["kept"]
