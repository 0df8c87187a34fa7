"""The profile for macOS, as far as it can be looked at elsewhere; the sandbox itself needs a Mac."""

import re
import sys
from pathlib import Path

import pytest

from protocol.errors import UserError
from trainer.probe import probe
from trainer.sandbox import BACKENDS
from trainer.seatbelt import Seatbelt, profile
from trainer.spawn import Cell

CELL = Cell("candidate", {}, Path('/tmp/work "it"'), [Path("/data/a\\b")])


def test_what_is_not_named_is_denied() -> None:
    rules = profile(CELL).splitlines()
    assert rules[:2] == ["(version 1)", "(deny default)"]
    assert not [rule for rule in rules if "network" in rule or "process-fork" in rule]
    assert [rule for rule in rules if rule.startswith("(allow file-write* ")] == [
        r'(allow file-write* (subpath "/tmp/work \"it\""))'
    ]


def test_paths_are_quoted_and_parentheses_match() -> None:
    text = profile(CELL)
    assert r'(subpath "/data/a\\b")' in text
    bare = re.sub(r'"(\\.|[^"\\])*"', '""', text)
    assert bare.count("(") == bare.count(")")
    assert not bare.replace('""', "").count('"')


def test_only_metal_gets_the_driver() -> None:
    assert "iokit" not in profile(CELL)
    assert "iokit-open" in profile(Cell("candidate", {}, Path("/tmp/work"), device="mps"))


@pytest.mark.skipif(sys.platform == "darwin", reason="here it is there")
def test_elsewhere_it_is_not_offered() -> None:
    assert Seatbelt not in BACKENDS
    with pytest.raises(UserError, match="macOS"):
        Seatbelt()


@pytest.mark.skipif(sys.platform != "darwin", reason="sandbox-exec comes with macOS")
async def test_it_holds(tmp_path: Path) -> None:
    assert (await probe(Seatbelt(), tmp_path)).wrong == []
