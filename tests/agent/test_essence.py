"""What makes two assets one experiment, and what does not."""

import pytest

from agent.essence import essence

PLAIN = b"""def train(run):
    return 1 + run.depth
"""


@pytest.mark.parametrize(
    "same",
    [
        PLAIN + b"\n\n",
        b"# a comment\n" + PLAIN,
        b'"""A docstring."""\n' + PLAIN,
        b'def train(run):\n    """It trains."""\n    return (1 +\n        run.depth)  # so\n',
    ],
    ids=["empty lines", "comment", "module docstring", "docstring and layout"],
)
def test_what_does_not_run_makes_no_difference(same: bytes) -> None:
    assert essence(same, "train.py") == essence(PLAIN, "train.py")


@pytest.mark.parametrize("other", [PLAIN.replace(b"1", b"2"), PLAIN.replace(b"1", b"'1'"), PLAIN + b"x = 1\n", b""])
def test_what_runs_does(other: bytes) -> None:
    assert essence(other, "train.py") != essence(PLAIN, "train.py")


def test_a_docstring_alone_is_a_body_no_more() -> None:
    assert essence(b'def f():\n    "a"\n', "a.py") == essence(b'def f():\n    "b"\n', "a.py")


def test_json_whatever_its_order_and_text_whatever_its_blanks() -> None:
    assert essence(b'{"a": 1, "b": 2}', "a.json") == essence(b'{\n "b": 2,\n "a": 1}', "a.json")
    assert essence(b'{"a": 1}', "a.json") != essence(b'{"a": 1.5}', "a.json")
    assert essence(b"be brief  \n\nbe kind\n", "prompt.txt") == essence(b"be brief\nbe kind", "prompt.txt")
    assert essence(b" be brief", "prompt.txt") != essence(b"be brief", "prompt.txt")


@pytest.mark.parametrize("name", ["a.py", "a.json"])
@pytest.mark.parametrize("broken", [b"x = (", b"\xff\0", b"(" * 10_000, b"[" * 100_000])
def test_what_cannot_be_read_is_told_apart(name: str, broken: bytes) -> None:
    assert essence(broken, name) != essence(broken + b"1", name)
