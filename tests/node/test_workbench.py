"""Whose code may run where no sandbox holds."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from node.workbench import Workbench, open_workbench
from protocol.errors import UserError
from tests.node.nodes import NUMBERS
from trainer.sandbox import BACKENDS, Bubblewrap, Sandbox

Backends = Sequence[Callable[[], Sandbox]]


async def bench(folder: Path, backends: Backends = BACKENDS, *, unsafe: bool = False, own: bool = True) -> Workbench:
    return await open_workbench(
        NUMBERS, cache=folder / "cache", scratch=folder, device="cpu", unsafe=unsafe, own=own, backends=backends
    )


class Broken(Bubblewrap):
    """A backend that starts nothing."""

    def __init__(self) -> None:
        raise UserError("it is not installed")


async def test_peers_code_runs_in_a_sandbox_that_holds(tmp_path: Path) -> None:
    found = await bench(tmp_path, own=False)
    assert found.foreign
    assert found.sandbox != "none"


async def test_without_a_sandbox_a_node_runs_its_own_code_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = await bench(tmp_path, [Broken])
    assert not found.foreign
    assert "bubblewrap: it is not installed" in caplog.text
    assert "no code but its own" in caplog.text


async def test_without_a_sandbox_a_strangers_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no sandbox holds here.*--unsafe-no-sandbox"):
        await bench(tmp_path, [Broken], own=False)


async def test_the_risk_can_be_taken_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = await bench(tmp_path, [Broken], unsafe=True, own=False)
    assert found.foreign
    assert "all that you may do yourself" in caplog.text
