"""A proposer for the time in which another can't be had."""

import logging
from dataclasses import replace

import trio

from agent.proposer import Context, Edit, Proposer, UnavailableError

log = logging.getLogger(__name__)

#: Until it is asked again; doubled each time that it can't be had.
PAUSE_SECONDS, MOST_PAUSE_SECONDS = 60.0, 3600.0


class Fallback:
    """``first`` as long as it can be had, else ``second``; it is tried again after a pause that grows."""

    def __init__(self, first: Proposer, second: Proposer | None) -> None:
        self.name = first.name
        self._first = first
        self._second = second
        self._due = 0.0
        self._pause = PAUSE_SECONDS

    async def propose(self, context: Context) -> Edit | None:
        if trio.current_time() >= self._due:
            try:
                edit = await self._first.propose(context)
            except UnavailableError as error:
                self._due = trio.current_time() + self._pause
                log.warning(
                    "no edit by %s: %s; %s until it is asked again in %.0f s", self.name, error,
                    "none" if self._second is None else "local search", self._pause,
                )  # fmt: skip
                self._pause = min(2 * self._pause, MOST_PAUSE_SECONDS)
            else:
                self._pause = PAUSE_SECONDS
                return edit
        edit = None if self._second is None else await self._second.propose(context)
        return None if edit is None else replace(edit, fallback=True)
