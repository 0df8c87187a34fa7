"""The next edit, thought of while an experiment runs."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from agent.proposer import Context, Edit, Proposer
from node.parts import Meters
from node.records import Signal

log = logging.getLogger(__name__)

#: A proposer that had nothing to propose is asked again after this long, or when a record comes; one
#: that failed is left alone for this long first.
RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class Idea:
    """An edit of the asset at ``base``."""

    base: str
    edit: Edit


class Thinker:
    """Keeps ``ahead`` ideas in store, one for each lane. ``context`` gives what the proposer may know now, or None
    without a base.
    """

    def __init__(
        self, proposer: Proposer, context: Callable[[], Awaitable[Context | None]], changed: Signal, meters: Meters,
        ahead: int = 1,
    ) -> None:  # fmt: skip
        self._proposer = proposer
        self._context = context
        self._changed = changed
        self._meters = meters
        self._ahead = ahead
        self._ideas: deque[Idea] = deque()
        self._taken = Signal()

    def take(self) -> Idea | None:
        """The oldest idea, where there is one; another is then thought of."""
        if not self._ideas:
            return None
        self._taken.send()
        return self._ideas.popleft()

    async def run(self) -> None:
        """Think for ever; ``changed`` is sent when an idea is ready."""
        while True:
            while len(self._ideas) >= self._ahead:
                await self._taken.wait(RETRY_SECONDS)
            context = await self._context()
            edit = None if context is None else await self._propose(context)
            if context is None or edit is None:
                await self._changed.wait(RETRY_SECONDS)
                continue
            self._ideas.append(Idea(context.base, edit))
            self._changed.send()

    async def _propose(self, context: Context) -> Edit | None:
        """A proposer works with a model's, a peer's or a program's words, and what it raises is nobody's end: it is
        counted, logged, and the proposer asked again after a while.
        """
        begun = trio.current_time()
        try:
            edit = await self._proposer.propose(context)
        except Exception:
            log.exception("the proposer %s failed, and is left alone for %g s", self._proposer.name, RETRY_SECONDS)
            self._meters.thought(trio.current_time() - begun, "error")
            await trio.sleep(RETRY_SECONDS)
            return None
        outcome = "none" if edit is None else "fallback" if edit.fallback else "edit"
        self._meters.thought(trio.current_time() - begun, outcome)
        return edit
