"""Time of lanes without an experiment, and why: a lane should never wait for a proposer that had time to think."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import trio

from node.kept_idle import read_idle, shares
from node.parts import Meters
from protocol import codec


class Idle:
    """Of ``lanes`` lanes, while they work: from ``begin`` to ``end``, and in earlier starts, of which ``kept`` is what
    ``to_keep`` said at last. ``resting`` are idle now.
    """

    def __init__(self, meters: Meters, lanes: int, kept: bytes | None = None) -> None:
        self._meters = meters
        self._lanes = lanes
        self.resting = 0
        self._before, self._seconds = read_idle(kept)
        self._clock: trio.abc.Clock | None = None
        self._begun = 0.0
        self._ended: float | None = None

    def begin(self) -> None:
        self._clock, self._begun = trio.lowlevel.current_clock(), trio.current_time()

    def end(self) -> None:
        self._ended = trio.current_time()

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
            self._seconds[cause] = self._seconds.get(cause, 0.0) + seconds
            self._meters.idle(cause, seconds)

    def shares(self) -> Mapping[str, float]:
        """What share of the lanes' time went so, by cause; also outside trio."""
        return shares(self._whole(), self._seconds)

    def to_keep(self) -> bytes:
        """Seconds of the lanes together, and those of them that were idle, by cause."""
        return codec.encode([self._whole(), self._seconds])

    def _whole(self) -> float:
        whole = self._before
        if self._clock is not None:
            ended = self._clock.current_time() if self._ended is None else self._ended
            whole += self._lanes * (ended - self._begun)
        return whole
