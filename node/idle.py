"""Time of lanes without an experiment, and why: a lane should never wait for a proposer that had time to think."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import trio

from node.parts import Meters


class Idle:
    """Of ``lanes`` lanes, while they work: from ``begin`` to ``end``. ``resting`` are idle now."""

    def __init__(self, meters: Meters, lanes: int, clock_ms: Callable[[], int]) -> None:
        self._meters = meters
        self._lanes = lanes
        self._clock_ms = clock_ms
        self.resting = 0
        self._seconds: Counter[str] = Counter()
        self._begun_ms: int | None = None
        self._ended_ms: int | None = None

    def begin(self) -> None:
        self._begun_ms = self._clock_ms()

    def end(self) -> None:
        self._ended_ms = self._clock_ms()

    @contextmanager
    def because(self, cause: str) -> Iterator[None]:
        """One lane is idle meanwhile."""
        begun = trio.current_time()
        self.resting += 1
        try:
            yield
        finally:
            self.resting -= 1
            seconds = trio.current_time() - begun
            self._seconds[cause] += seconds  # type: ignore[assignment]  # counters count seconds as well
            self._meters.idle(cause, seconds)

    def shares(self) -> Mapping[str, float]:
        """What share of the lanes' time went so, by cause; also outside trio."""
        if self._begun_ms is None:
            return {}
        ended_ms = self._clock_ms() if self._ended_ms is None else self._ended_ms
        whole = self._lanes * max(1, ended_ms - self._begun_ms) / 1000
        return {cause: min(1.0, seconds / whole) for cause, seconds in sorted(self._seconds.items())}
