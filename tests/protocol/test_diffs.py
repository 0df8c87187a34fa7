"""make_diff and apply_diff are inverse, agree with git, and refuse everything else."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.diffs import apply_diff, compress, count_lines, decompress, make_diff
from protocol.errors import RemoteProtocolError

TEXTS = st.lists(st.sampled_from([b"a", b"b", b"", b"--- a/x", b"@@ -1 +1 @@", b"x\r"]), max_size=12).flatmap(
    lambda lines: st.sampled_from([b"\n".join(lines), b"\n".join(lines) + b"\n"])
)


@given(TEXTS, TEXTS)
def test_a_diff_applies_to_its_base_and_gives_the_new_text(old: bytes, new: bytes) -> None:
    assert apply_diff(old, make_diff(old, new, "train.py"), "train.py") == new


@given(TEXTS, TEXTS)
def test_compression_round_trips(old: bytes, new: bytes) -> None:
    diff = make_diff(old, new, "train.py")
    assert decompress(compress(diff)) == diff


@given(st.binary(max_size=300), TEXTS)
def test_any_bytes_are_applied_or_refused(junk: bytes, old: bytes) -> None:
    for diff in (junk, make_diff(b"a\n", b"b\n", "train.py") + junk):
        try:
            apply_diff(old, diff, "train.py")
            decompress(junk)
        except RemoteProtocolError:
            pass


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"one\ntwo\nthree\n", b"one\n2\nthree\n"),
        (b"one\ntwo", b"one\ntwo\n"),
        (b"one\ntwo\n", b"one\ntwo"),
        (b"".join(b"%d\n" % i for i in range(50)), b"".join(b"%d\n" % (i * (i != 3 and i != 40)) for i in range(50))),
    ],
)
def test_git_applies_the_same_bytes(tmp_path: Path, old: bytes, new: bytes) -> None:
    (tmp_path / "train.py").write_bytes(old)
    diff = make_diff(old, new, "train.py")
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=diff, check=True, timeout=30)
    assert (tmp_path / "train.py").read_bytes() == new


def test_many_equal_lines_are_replaced_whole() -> None:
    old, new = b"x\n" * 3000, b"x\n" * 2000 + b"y\n" + b"x\n" * 900
    diff = make_diff(old, new, "train.py")
    assert count_lines(diff) == (2901, 3000)
    assert apply_diff(old, diff, "train.py") == new


def test_lines_are_counted() -> None:
    assert count_lines(make_diff(b"a\nb\n--- c\n", b"a\nx\ny\n", "train.py")) == (2, 2)
    assert count_lines(b"") == (0, 0)


def test_a_diff_of_another_path_is_refused() -> None:
    diff = make_diff(b"a\n", b"b\n", "runner.py")
    with pytest.raises(RemoteProtocolError, match=r"train\.py alone"):
        apply_diff(b"a\n", diff, "train.py")


def test_a_second_file_after_the_first_is_refused() -> None:
    diff = make_diff(b"a\n", b"b\n", "train.py") + make_diff(b"a\n", b"b\n", "runner.py")
    with pytest.raises(RemoteProtocolError, match="hunk header"):
        apply_diff(b"a\n", diff, "train.py")


def test_a_bomb_stops_at_the_bound() -> None:
    with pytest.raises(RemoteProtocolError, match="oversize"):
        decompress(compress(b"0" * (64 * 1024 * 1024)))


HUNK = "@@ -1 +1 @@\n-a\n+b\n"
NAMES = "--- a/train.py\n+++ b/train.py\n"
GIT = "diff --git a/train.py b/train.py\n"
#: What git itself would take, and what would then be somewhere else or something else.
TRICKS = {
    "a symlink": GIT + "old mode 100644\nnew mode 120000\n" + NAMES + HUNK,
    "a link in its place": GIT + "deleted file mode 100644\n" + NAMES + HUNK,
    "a submodule": GIT + "new file mode 160000\n" + NAMES + "@@ -0,0 +1 @@\n+Subproject x\n",
    "a right to run": GIT + "old mode 100644\nnew mode 100755\n" + NAMES + HUNK,
    "a rename": "diff --git a/train.py b/runner.py\nrename from train.py\nrename to runner.py\n",
    "a copy": "diff --git a/train.py b/runner.py\ncopy from train.py\ncopy to runner.py\n",
    "a hook": "diff --git a/.git/hooks/x b/.git/hooks/x\n--- /dev/null\n+++ b/.git/hooks/x\n" + HUNK,
    "a path above": GIT + "--- a/train.py\n+++ b/../train.py\n" + HUNK,
    "another name in quotes": 'diff --git "a/train.py" "b/train.py"\n' + NAMES + HUNK,
    "attributes": GIT + NAMES + HUNK + "diff --git a/.gitattributes b/.gitattributes\n" + HUNK,
    "a binary patch": GIT + "GIT binary patch\nliteral 1\nIcmZ\n",
    "no names": HUNK,
    "a mail before": "From: me\n" + GIT + NAMES + HUNK,
}


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_but_the_assets_lines_can_change(trick: str) -> None:
    assert apply_diff(b"a\n", (GIT + NAMES + HUNK).encode(), "train.py") == b"b\n"
    with pytest.raises(RemoteProtocolError) as caught:
        apply_diff(b"a\n", TRICKS[trick].encode(), "train.py")
    assert caught.value.reason == "diff"
