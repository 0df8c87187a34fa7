"""Our ids are git's: a real repository built by git itself has the same ones."""

import os
import subprocess
from pathlib import Path

import pytest

from protocol.commits import AUTHOR, CANDIDATE_MESSAGE, DATE, GENESIS_MESSAGE, CommitScheme, blob_id
from protocol.errors import LocalProtocolError

FILES = {"train.py": b"x = 1\n", "program.md": b"# p\n", "text/b.txt": b"b", "text.md": b"", "text/a/c.txt": b"c"}


def git(cwd: Path, *arguments: str, data: bytes | None = None) -> str:
    name, email = AUTHOR.decode().rstrip(">").split(" <")
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER")
           for key, value in (("NAME", name), ("EMAIL", email), ("DATE", DATE.decode()))}
    done = subprocess.run(["git", *arguments], cwd=cwd, input=data, env=os.environ | who, check=True,
                          capture_output=True, timeout=30)
    return done.stdout.decode().strip()


def commit(repo: Path, files: dict[str, bytes], message: bytes) -> str:
    for path, data in files.items():
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_bytes(data)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "--no-gpg-sign", "-F", "-", data=message)
    return git(repo, "rev-parse", "HEAD")


def test_ids_are_those_that_git_gives(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "best")
    scheme = CommitScheme(FILES, "train.py")
    assert commit(tmp_path, FILES, GENESIS_MESSAGE) == scheme.genesis
    edited = b"x = 2\n"
    candidate = scheme.candidate(scheme.genesis, blob_id(edited))
    assert commit(tmp_path, {"train.py": edited}, CANDIDATE_MESSAGE) == candidate
    assert git(tmp_path, "rev-parse", "HEAD^{tree}") == scheme.tree(blob_id(edited))


def test_the_same_edit_on_another_parent_is_another_candidate() -> None:
    scheme = CommitScheme(FILES, "train.py")
    blob = blob_id(b"x = 2\n")
    other = scheme.candidate(scheme.genesis, blob)
    assert scheme.candidate(other, blob) != other


def test_an_asset_that_is_not_in_the_program_is_our_misuse() -> None:
    with pytest.raises(LocalProtocolError, match="among the program's files"):
        CommitScheme(FILES, "model.py")
