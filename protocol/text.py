"""Words from elsewhere: untrusted wherever they are shown."""


def one_line(text: str, most: int | None = None) -> str:
    """``text`` in one line of at most ``most`` letters, without what a terminal, log or table would obey.

    What can't be printed (controls, line ends, changes of the writing direction) becomes a space.
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if most is None or len(line) <= most:
        return line
    return line[: most - 1] + "…" if most > 0 else ""
