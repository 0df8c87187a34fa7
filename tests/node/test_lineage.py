"""The repository of a home is plain git, and its ids are those of protocol.commits."""

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from node.lineage import GitLineage, Step
from protocol.commits import CommitScheme, blob_id
from protocol.errors import LocalProtocolError, UserError

LINES = [b"one\n", b"two\n", b"three\n", b"four\n", b"five\n", b"six\n", b"seven\n"]
BASE = b"".join(LINES)
FILES = {"program.md": b"+++\n", "code/train.py": BASE, "code/runner.py": b"run\n", "text/a": b"\x00\xff"}


@pytest.fixture
def scheme() -> CommitScheme:
    return CommitScheme(FILES, "code/train.py")


@pytest.fixture
def lineage(tmp_path: Path, scheme: CommitScheme) -> Iterator[GitLineage]:
    with closing(GitLineage(tmp_path / "lineage", scheme)) as lineage:
        yield lineage


def edited(line: int, text: bytes) -> bytes:
    return b"".join([*LINES[:line], text, *LINES[line + 1 :]])


def chain(scheme: CommitScheme, count: int) -> list[Step]:
    steps: list[Step] = []
    parent = scheme.genesis
    for number in range(count):
        asset = BASE + b"edit %d" % number
        steps.append(Step(scheme.candidate(parent, blob_id(asset)), parent, asset))
        parent = steps[-1].commit
    return steps


def run_git(path: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=path, capture_output=True, check=True, timeout=60, text=True)
    return done.stdout + done.stderr


async def test_two_repositories_agree_and_git_finds_no_fault(tmp_path: Path, scheme: CommitScheme) -> None:
    steps = chain(scheme, 3)
    for name in ("a", "b"):
        with closing(GitLineage(tmp_path / name, scheme)) as lineage:
            await lineage.write(steps)
            await lineage.write(steps)
            assert lineage.asset(steps[-1].commit) == steps[-1].asset
            assert lineage.asset(scheme.genesis) == BASE
        assert "error" not in run_git(tmp_path / name, "fsck", "--full", "--strict")
        listed = run_git(tmp_path / name, "log", "--format=%H", steps[-1].commit).split()
        assert listed == [*(step.commit for step in reversed(steps)), scheme.genesis]


async def test_lineages_in_bulk_are_cloned_with_branch_and_notes(
    tmp_path: Path, scheme: CommitScheme, lineage: GitLineage
) -> None:
    steps = chain(scheme, 150)  # more than fast-import unpacks: read from a pack
    await lineage.write(steps[:3])
    await lineage.publish(steps[2].commit, {steps[0].commit: "first", scheme.genesis: "start"})
    await lineage.write(steps[3:])
    await lineage.publish(steps[-1].commit, {steps[-1].commit: "val_bpb 1.5"})
    assert all(lineage.asset(step.commit) == step.asset for step in steps)
    run_git(tmp_path, "clone", "-q", str(tmp_path / "lineage"), "copy")
    assert (tmp_path / "copy" / "code" / "train.py").read_bytes() == steps[-1].asset
    run_git(tmp_path / "copy", "fetch", "-q", "origin", "refs/notes/*:refs/notes/*")
    log = run_git(tmp_path / "copy", "log", "best")
    assert "val_bpb 1.5" in log
    assert "first" in log
    assert "start" in log
    assert run_git(tmp_path / "lineage", "rev-parse", "best").strip() == steps[-1].commit
    assert "error" not in run_git(tmp_path / "lineage", "fsck", "--full", "--strict")


async def test_the_branch_moves_back_and_a_reopened_repository_holds_all(
    tmp_path: Path, scheme: CommitScheme, lineage: GitLineage
) -> None:
    steps = chain(scheme, 2)
    await lineage.write(steps)
    await lineage.publish(steps[1].commit, {})
    await lineage.publish(scheme.genesis, {})
    lineage.close()
    assert run_git(tmp_path / "lineage", "rev-parse", "best").strip() == scheme.genesis
    with closing(GitLineage(tmp_path / "lineage", scheme)) as again:
        assert steps[1].commit in again
        assert again.asset("0" * 40) is None


async def test_a_wrong_id_is_our_mistake(lineage: GitLineage, scheme: CommitScheme) -> None:
    with pytest.raises(LocalProtocolError):
        await lineage.write([Step("1" * 40, scheme.genesis, b"other")])


async def test_edits_apart_merge_and_edits_of_one_line_conflict(lineage: GitLineage) -> None:
    ours, theirs = edited(0, b"ONE\n"), edited(6, b"SEVEN\n")
    merged = await lineage.merge(BASE, ours, theirs)
    assert merged == b"".join([b"ONE\n", *LINES[1:6], b"SEVEN\n"])
    assert await lineage.merge(BASE, ours, edited(0, b"Uno\n")) is None
    assert await lineage.merge(b"\x00", b"\x00a", b"b\x00") is None  # no text: nothing to merge


def test_no_git_is_one_clear_line(
    tmp_path: Path, scheme: CommitScheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot use"):
        GitLineage(tmp_path / "file", scheme)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="git is needed"):
        GitLineage(tmp_path / "lineage", scheme)
