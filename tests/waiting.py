"""Waiting for what a test expects, with a deadline in place of a guess."""

from collections.abc import Callable

import trio

#: Short against what is waited for, long against the cost of a look.
LOOK_SECONDS = 0.02


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return as soon as ``condition`` holds. Raises AssertionError if it does not within ``seconds``."""
    with trio.move_on_after(seconds):
        while not condition():  # noqa: ASYNC110  # conditions of many parts have no event
            await trio.sleep(LOOK_SECONDS)
        return
    raise AssertionError(f"did not come true within {seconds:g} seconds")
