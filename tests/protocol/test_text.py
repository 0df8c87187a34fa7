"""One line, whatever comes in."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.text import one_line


@given(st.text(), st.integers(0, 30))
def test_it_is_printable_and_bounded(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert line.isprintable()
    assert one_line(line, most) == line


def test_what_it_does() -> None:
    assert one_line("a\x1b[31m\n\tb\u202e  c") == "a [31m b c"
    assert one_line("abcdef", 4) == "abc…"
    assert one_line("abcd", 4) == "abcd"
    assert one_line("x" * 1000) == "x" * 1000
