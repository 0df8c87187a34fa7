"""A proposer for the time in which another can't be had, or has nothing to propose."""

import logging
from dataclasses import replace

import trio

from agent.proposer import Context, Edit, Proposer, UnavailableError

log = logging.getLogger(__name__)

#: Until it is asked again, since each answer costs; doubled each time that there is no edit.
PAUSE_SECONDS, MOST_PAUSE_SECONDS = 60.0, 3600.0
#: In place of a base: who can't be had can't be had for any.
_ALL = ""


class Fallback:
    """``first`` as long as it can be had, else ``second``; it is tried again after a pause that grows.

    The same for one base where it has nothing to propose for that.
    """

    def __init__(self, first: Proposer, second: Proposer | None) -> None:
        self.name = first.name
        self._first = first
        self._second = second
        self._resting: dict[str, float] = {}
        self._pause = PAUSE_SECONDS

    async def propose(self, context: Context) -> Edit | None:
        if not self._rests(context.base):
            try:
                edit = await self._first.propose(context)
            except UnavailableError as error:
                self._rest(_ALL, str(error))
            else:
                if edit is not None:
                    self._pause = PAUSE_SECONDS
                    return edit
                self._rest(context.base, f"it has none for {context.base[:10]}")
        edit = None if self._second is None else await self._second.propose(context)
        return None if edit is None else replace(edit, fallback=True)

    def _rests(self, base: str) -> bool:
        now = trio.current_time()
        self._resting = {one: until for one, until in self._resting.items() if until > now}
        return _ALL in self._resting or base in self._resting

    def _rest(self, base: str, why: str) -> None:
        self._resting[base] = trio.current_time() + self._pause
        log.warning(
            "no edit by %s: %s; %s until it is asked again in %.0f s", self.name, why,
            "none" if self._second is None else "local search", self._pause,
        )  # fmt: skip
        self._pause = min(2 * self._pause, MOST_PAUSE_SECONDS)
