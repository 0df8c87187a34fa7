"""Time of lanes without an experiment, and why: a lane should never wait for a proposer that had time to think."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import trio

from node.parts import Meters
from protocol import codec

#: Under which a journal keeps ``Idle.to_keep``.
KEPT = "idle"


class Idle:
    """Of ``lanes`` lanes, while they work: from ``begin`` to ``end``, and in earlier starts, of which ``kept`` is what
    ``to_keep`` said at last. ``resting`` are idle now.
    """

    def __init__(self, meters: Meters, lanes: int, clock_ms: Callable[[], int], kept: bytes | None = None) -> None:
        self._meters = meters
        self._lanes = lanes
        self._clock_ms = clock_ms
        self.resting = 0
        self._before, self._seconds = _read(kept)
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
            self._seconds[cause] = self._seconds.get(cause, 0.0) + seconds
            self._meters.idle(cause, seconds)

    def shares(self) -> Mapping[str, float]:
        """What share of the lanes' time went so, by cause; also outside trio."""
        return kept_shares(self.to_keep())

    def to_keep(self) -> bytes:
        """Seconds of the lanes together, and those of them that were idle, by cause."""
        whole = self._before
        if self._begun_ms is not None:
            ended_ms = self._clock_ms() if self._ended_ms is None else self._ended_ms
            whole += self._lanes * max(1, ended_ms - self._begun_ms) / 1000
        return codec.encode([whole, self._seconds])


def kept_shares(kept: bytes | None) -> Mapping[str, float]:
    """What share of the lanes' time went so, by cause, of what a journal keeps."""
    whole, seconds = _read(kept)
    return {cause: min(1.0, one / whole) for cause, one in sorted(seconds.items())} if whole else {}


def _read(kept: bytes | None) -> tuple[float, dict[str, float]]:
    whole, seconds = codec.decode(kept) if kept else (0.0, {})
    return whole, seconds
