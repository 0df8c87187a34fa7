"""Experiments side by side, each where it was pinned."""

import os
from pathlib import Path

import pytest
import trio

from protocol.errors import UserError
from protocol.statements import Status
from tests.trainer.kit import CAPS, CPU, script_program
from trainer.data import Data
from trainer.experiment import Trainer
from trainer.job import Job, Pin
from trainer.lanes import Lanes, pins, usable_cpus
from trainer.probe import strongest
from trainer.sandbox import Unsafe

WHERE = """
import os
def train(run):
    print("on", sorted(os.sched_getaffinity(0)), flush=True)
    while run.fraction() < 1:
        pass
"""


@pytest.mark.parametrize(
    ("wanted", "kind", "found"),
    [
        (1, "cpu", [Pin()]),
        (2, "cpu", [Pin(cpu=4), Pin(cpu=5)]),
        (None, "cpu", [Pin(cpu=4), Pin(cpu=5)]),
        (2, "cuda", [Pin(gpu=0), Pin(gpu=1)]),
        (None, "cuda", [Pin(gpu=0), Pin(gpu=1)]),
        (None, "mps", [Pin()]),
    ],
)
def test_where_lanes_are(wanted: int | None, kind: str, found: list[Pin]) -> None:
    assert pins(wanted, kind, cpus=[4, 5, 6], gpus=2) == found


@pytest.mark.parametrize(("wanted", "kind"), [(4, "cpu"), (3, "cuda"), (2, "mps")])
def test_more_lanes_than_there_is_room_for(wanted: int, kind: str) -> None:
    with pytest.raises(UserError, match=rf"{wanted} lanes on . {kind}: give at most --lanes"):
        pins(wanted, kind, cpus=[4, 5, 6], gpus=2)


def test_a_machine_of_one_cpu_has_one_lane() -> None:
    assert pins(None, "cpu", cpus=[0], gpus=0) == [Pin()]


async def test_two_runs_at_a_time_each_on_its_cpu(tmp_path: Path) -> None:
    cpus = usable_cpus()[:2]
    if len(cpus) < 2:
        pytest.skip("this machine has one CPU")
    program, sandbox = script_program(tmp_path / "program", WHERE), (await strongest(tmp_path)).sandbox or Unsafe()
    lanes = Lanes(
        [
            Trainer(program, Data(), sandbox, CPU, scratch=tmp_path / "scratch", caps=CAPS, pin=Pin(cpu=cpu))
            for cpu in cpus
        ]
    )
    said: list[bytes] = []
    running = most = 0

    async def run() -> None:
        nonlocal running, most

        def follow(progress: object) -> None:
            nonlocal most
            most = max(most, running)

        running += 1
        outcome = await lanes.run(Job(program.asset, 1), follow, said.append)
        running -= 1
        assert outcome.status is Status.SCORED, outcome.failure

    async with trio.open_nursery() as nursery:
        for _ in cpus:
            nursery.start_soon(run)
    assert most == 2
    assert {line for part in said for line in part.decode().splitlines()} == {f"on [{cpu}]" for cpu in cpus}
    assert len(os.sched_getaffinity(0)) >= 2, "the trainer itself was left pinned"


async def test_a_third_run_waits_for_a_lane(tmp_path: Path) -> None:
    program = script_program(tmp_path / "program")
    one = Trainer(program, Data(), Unsafe(), CPU, scratch=tmp_path / "scratch", caps=CAPS)
    lanes, ended = Lanes([one]), []

    async def run(number: int) -> None:
        outcome = await lanes.run(Job(program.asset, number))
        ended.append(outcome.status)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(run, number)
    assert ended == [Status.SCORED] * 3
