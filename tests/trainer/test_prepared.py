"""A child that waits for the next run: it saves the start-up, serves one candidate, and no candidate reaches it."""

from pathlib import Path

import pytest
import trio

from protocol.errors import UserError
from protocol.statements import Status
from tests.trainer.kit import CPU, script_program, trainer
from tests.waiting import until
from trainer.data import Data
from trainer.experiment import Trainer
from trainer.job import Caps, Job, Outcome
from trainer.probe import probe
from trainer.sandbox import Bubblewrap, Landlock, Sandbox

#: Importing what a runner needs: long enough to be told from nothing.
SLOW_SECONDS = 1.0
SLOW_RUNNER = """
import time
from pathlib import Path
time.sleep({seconds})

def load(run):
    return None

def train(run):
    import importlib.util
    spec = importlib.util.spec_from_file_location("asset", run.asset)
    asset = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(asset)
    return asset, asset.train(run)

def answer(state, question):
    asset, trained = state
    return asset.answer(trained, question)
"""
BUSY_RUNNER = SLOW_RUNNER.replace("time.sleep({seconds})", "import threading\ndef spin():\n    while True: pass\n"
                                  "threading.Thread(target=spin, daemon=True).start()")  # fmt: skip
LEAVES = "def train(run):\n    open('left', 'w').write('x')\n    import sys; sys.modules['os'].left = True\n"
LOOKS = """
def train(run):
    import os
    return [os.path.exists('left'), hasattr(os, 'left'), run.seed]

def answer(trained, question):
    return {"metric": 1.0 if trained == [False, False, 7] else 2.0}
"""
#: Tries to reach the processes that it is told of.
REACHES = """
import ctypes, os, signal

def train(run):
    libc = ctypes.CDLL(None, use_errno=True)
    for pid in {pids}:
        if libc.ptrace(16, pid, 0, 0) == 0:
            print("traces", pid, flush=True)
        for name in ("mem", "environ", "maps", "fd/0"):
            try:
                with open(f"/proc/{{pid}}/{{name}}", "rb"):
                    print("opens", name, "of", pid, flush=True)
            except OSError:
                pass
        try:
            os.kill(pid, signal.SIGKILL)
            print("kills", pid, flush=True)
        except OSError:
            pass
"""


def program_runner(folder: Path, runner: str, asset: str = "") -> Trainer:
    program = script_program(folder / "program", asset, files={"runner.py": runner.format(seconds=SLOW_SECONDS)})
    return trainer(folder, program)


async def warm(made: Trainer) -> None:
    """Wait until a spare has said that it is ready: its frame lies in the socket."""

    def ready() -> bool:
        spare = made._spares._spare
        return spare is not None and spare.prepared.candidate.channel.waiting

    await until(ready, 60.0)


async def test_a_warm_start_saves_the_start_up(tmp_path: Path) -> None:
    made = program_runner(tmp_path, SLOW_RUNNER)
    cold = await made.run(Job(made.program.asset, 1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.keep_warm)
        await warm(made)
        warmed = await made.run(Job(made.program.asset, 1))
        nursery.cancel_scope.cancel()
    assert cold.status is warmed.status is Status.SCORED
    assert warmed.overhead_seconds < cold.overhead_seconds - SLOW_SECONDS / 2
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_each_serves_one_candidate(tmp_path: Path) -> None:
    made = program_runner(tmp_path, SLOW_RUNNER)
    outcomes: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.keep_warm)
        for asset in (LEAVES, LOOKS):
            await warm(made)
            outcomes.append(await made.run(Job(script_program(tmp_path / str(len(outcomes)), asset).asset, 7)))
        nursery.cancel_scope.cancel()
    assert [outcome.metric for outcome in outcomes] == [1.0, 1.0]


async def test_one_that_died_is_not_used(tmp_path: Path) -> None:
    made = program_runner(tmp_path, SLOW_RUNNER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.keep_warm)
        await warm(made)
        spare = made._spares._spare
        assert spare is not None
        await spare.prepared.candidate.child.kill()
        outcome = await made.run(Job(made.program.asset, 1))
        nursery.cancel_scope.cancel()
    assert outcome.status is Status.SCORED, outcome.failure


async def test_one_that_does_more_than_wait_is_ended(tmp_path: Path) -> None:
    program = script_program(tmp_path / "program", files={"runner.py": BUSY_RUNNER})
    made = trainer(tmp_path, program, caps=Caps(startup=5.0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.keep_warm)
        await warm(made)
        spare = made._spares._spare
        assert spare is not None
        await until(lambda: not spare.prepared.candidate.child.running, 30.0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("backend", [Bubblewrap, Landlock])
async def test_no_candidate_reaches_the_spare(backend: type[Sandbox], tmp_path: Path) -> None:
    try:
        sandbox = backend()
        wrong = (await probe(sandbox, tmp_path)).wrong
    except UserError as error:
        wrong = [str(error)]
    if wrong:
        pytest.skip(f"{backend.__name__} does not hold here: {wrong}")
    program = script_program(tmp_path / "program")
    made = Trainer(program, Data(), sandbox, CPU, scratch=tmp_path / "scratch")
    said: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.keep_warm)
        await warm(made)
        spare = made._spares._spare
        assert spare is not None
        child = spare.prepared.candidate.child
        pids = [member.pid for member in child.tree.members()]
        attack = script_program(tmp_path / "attack", REACHES.format(pids=pids)).asset
        attacker = Trainer(program, Data(), sandbox, CPU, scratch=tmp_path / "scratch")
        outcome = await attacker.run(Job(attack, 1), on_output=said.append)
        assert child.running
        assert [member.pid for member in child.tree.members()] == pids
        nursery.cancel_scope.cancel()
    assert len(pids) >= 2
    assert outcome.status is Status.SCORED, outcome.failure
    assert said == []
