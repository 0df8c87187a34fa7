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
#: that failed is left alone for this long first, twice as long each time in a row: a try may cost money.
RETRY_SECONDS, MOST_ALONE_SECONDS = 30.0, 3600.0
#: A thought begins as late as it may: what the swarm has learnt by then goes into it. One that takes no more than this
#: share of a run begins when a lane wants it; any other so many times as long as the slowest of the latest thoughts
#: before a lane is expected to. A run that ends early waits a tenth of a run for it at most.
QUICK_SHARE = 0.01
HEADROOM = 10
LATEST_THOUGHTS = 8


@dataclass(frozen=True)
class Idea:
    """An edit of the asset at ``base``."""

    base: str
    edit: Edit


class Thinker:
    """Keeps ``ideas`` in store, one for each lane. ``context`` gives what the proposer may know now, or None without a
    base; ``wanted_in`` the seconds until lanes are expected to want one more idea than so many, 0 if they do.
    """

    def __init__(
        self, proposer: Proposer, context: Callable[[], Awaitable[Context | None]], changed: Signal, meters: Meters,
        lanes: int = 1, wanted_in: Callable[[int], float] = lambda ideas: 0.0, run_seconds: float = 0.0,
    ) -> None:  # fmt: skip
        self._proposer = proposer
        self._context = context
        self._changed = changed
        self._meters = meters
        self._lanes = lanes
        self._wanted_in = wanted_in
        self._quick = QUICK_SHARE * run_seconds
        self.ideas: deque[Idea] = deque()
        self._thoughts: deque[float] = deque(maxlen=LATEST_THOUGHTS)
        self._asked = Signal()
        self._alone = RETRY_SECONDS

    def take(self) -> Idea | None:
        """The oldest idea, where there is one."""
        if not self.ideas:
            self.wake()
        return self.ideas.popleft() if self.ideas else None

    def wake(self) -> None:
        """An experiment begins, or none can: look whether it is time to think. Not as soon as an idea is taken, as what
        is about to run would be known to nobody.
        """
        self._asked.send()

    async def run(self) -> None:
        """Think for ever; ``changed`` is sent when an idea is ready."""
        while True:
            while (seconds := self._to_wait()) > 0:
                await self._asked.wait(seconds)
            context = await self._context()
            edit = None if context is None else await self._propose(context)
            if context is None or edit is None:
                await self._changed.wait(RETRY_SECONDS)
                continue
            self.ideas.append(Idea(context.base, edit))
            self._changed.send()

    def _to_wait(self) -> float:
        """Seconds until the next idea must be thought of."""
        if len(self.ideas) >= self._lanes:
            return RETRY_SECONDS
        if not self._thoughts:
            return 0.0  # who knows how long it takes
        slowest = max(self._thoughts)
        return self._wanted_in(len(self.ideas)) - (HEADROOM * slowest if slowest > self._quick else 0.0)

    async def _propose(self, context: Context) -> Edit | None:
        """A proposer works with a model's, a peer's or a program's words, and what it raises is nobody's end: it is
        counted, logged, and the proposer asked again after a while.
        """
        begun = trio.current_time()
        try:
            edit = await self._proposer.propose(context)
        except Exception:
            log.exception("the proposer %s failed, and is left alone for %g s", self._proposer.name, self._alone)
            self._meters.thought(trio.current_time() - begun, "error")
            await trio.sleep(self._alone)
            self._alone = min(2 * self._alone, MOST_ALONE_SECONDS)
            return None
        self._alone = RETRY_SECONDS
        self._thoughts.append(trio.current_time() - begun)
        outcome = "none" if edit is None else "fallback" if edit.fallback else "edit"
        self._meters.thought(self._thoughts[-1], outcome)
        return edit
