"""Sandboxes that hold on this machine; and no test fails of being slow alone."""

from pathlib import Path

import pytest
import trio
from hypothesis import settings

from protocol.errors import UserError
from trainer.probe import probe
from trainer.sandbox import Bubblewrap, Landlock, Sandbox

#: A machine that has much else to do is no failure of an example.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

_WHY_NOT: dict[str, str] = {}


def _holds(backend: type[Bubblewrap] | type[Landlock], scratch: Path) -> str:
    if backend.name not in _WHY_NOT:
        try:
            _WHY_NOT[backend.name] = "; ".join(trio.run(probe, backend(), scratch).wrong)
        except UserError as error:
            _WHY_NOT[backend.name] = str(error)
    return _WHY_NOT[backend.name]


@pytest.fixture(params=[Bubblewrap, Landlock], ids=lambda backend: backend.name)
def sandbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Each backend that works here; the others are skipped with the reason."""
    if why := _holds(request.param, tmp_path_factory.mktemp("probe")):
        pytest.skip(f"{request.param.name} does not hold here: {why}")
    made: Sandbox = request.param()
    return made
