"""Each proposer keeps the promises of all (proposers.py)."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract.proposers import ClaudeKit, CommandKit, Kit, LocalKit, ProposerContract

KITS: dict[str, type[Kit]] = {"local": LocalKit, "claude": ClaudeKit, "command": CommandKit}


@pytest.fixture(params=sorted(KITS))
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    with ExitStack() as stack:
        yield KITS[request.param](tmp_path, stack)


class TestProposers(ProposerContract):
    """All of them, over each kit."""
