"""Edits of different tunables merge, however near to each other their lines are; by git itself."""

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.space import Space
from agent.tunables import read_tunables, write_tunables
from node.lineage import GitLineage
from node.merge import merge
from protocol.commits import CommitScheme
from protocol.diffs import MAX_ASSET_BYTES
from trainer.program import load_program

LM = load_program("lm").asset
NUMBERS = load_program(Path(__file__).parents[1] / "programs" / "numbers").asset
ASSETS = {"train.py": LM, "numbers.json": NUMBERS}
DEPTH, WIDTH = b"DEPTH: Annotated[int, Int(1, 4)] = 2\n", b"WIDTH: Annotated[int, Choice(64, 128, 192, 256)] = 128\n"


@pytest.fixture
def lineage(tmp_path: Path) -> Iterator[GitLineage]:
    with closing(GitLineage(tmp_path / "lineage", CommitScheme({"train.py": LM}, "train.py"))) as lineage:
        yield lineage


@pytest.mark.parametrize("name", ASSETS)
async def test_edits_of_different_tunables_merge(name: str, lineage: GitLineage) -> None:
    base, rng = ASSETS[name], random.Random(1)
    tunables = read_tunables(base, name)
    space, names = Space(tunables), list(tunables)
    conflicts = 0
    for _ in range(15):
        mixed = rng.sample(names, len(names))
        half = rng.randint(1, len(names) - 1)
        drawn = space.draw(rng)
        ours, theirs = ({key: drawn[key] for key in part} for part in (mixed[:half], mixed[half:]))
        assets = [write_tunables(base, name, values) for values in (ours, theirs)]
        conflicts += await lineage.merge(base, *assets) is None
        assert await merge(lineage, name, base, *assets) == write_tunables(base, name, {**ours, **theirs})
    assert conflicts  # line by line


async def test_one_tunable_moved_by_both_is_a_conflict_unless_to_one_value(lineage: GitLineage) -> None:
    deep = write_tunables(LM, "train.py", {"DEPTH": 3, "WIDTH": 64})
    other = write_tunables(LM, "train.py", {"DEPTH": 4, "HEAD_SIZE": 16})
    assert await merge(lineage, "train.py", LM, deep, other) is None
    same = write_tunables(LM, "train.py", {"DEPTH": 3, "HEAD_SIZE": 16})
    both = write_tunables(LM, "train.py", {"DEPTH": 3, "WIDTH": 64, "HEAD_SIZE": 16})
    assert await merge(lineage, "train.py", LM, deep, same) == both


async def test_an_edit_of_code_beside_a_tunable_keeps_both(lineage: GitLineage) -> None:
    """Also where the code has given the tunable another domain."""
    assert DEPTH + WIDTH in LM
    wider = LM.replace(DEPTH, DEPTH + b"EXTRA = 1\n").replace(WIDTH, WIDTH.replace(b"256)", b"256, 512)"))
    tuned = write_tunables(LM, "train.py", {"WIDTH": 192})
    merged = await merge(lineage, "train.py", LM, wider, tuned)
    assert merged == write_tunables(wider, "train.py", {"WIDTH": 192})


async def test_what_does_not_fit_together_is_a_conflict(lineage: GitLineage) -> None:
    tuned = write_tunables(LM, "train.py", {"DEPTH": 4})
    without = LM.replace(DEPTH, b"DEPTH = 2\n")  # no tunable any more
    assert await merge(lineage, "train.py", LM, without, tuned) is None
    narrow = LM.replace(DEPTH, DEPTH.replace(b"4)", b"3)"))
    assert await merge(lineage, "train.py", LM, narrow, tuned) is None
    code = [LM.replace(DEPTH, DEPTH + b"EXTRA = %d\n" % number) for number in (1, 2)]
    assert await merge(lineage, "train.py", LM, *code) is None


async def test_a_merged_asset_keeps_to_its_bound(lineage: GitLineage) -> None:
    half = b"# %s\n" % (b"x" * (MAX_ASSET_BYTES // 2))
    assert await merge(lineage, "train.py", LM, half + LM, LM + half) is None
