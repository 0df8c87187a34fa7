"""A place for the nodes of one test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import Place, place


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        yield made
