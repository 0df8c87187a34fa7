"""Who is answered at a time: one session of each peer, and not all of them for one host."""

from collections.abc import Iterator
from contextlib import contextmanager

from gossip.gate import household

#: Sessions that are answered at a time; others ask again a little later.
MOST_SESSIONS = 8
#: Of them, those of one IP address: a laboratory behind one has most, and two are left to whoever else asks.
SESSIONS_OF_A_HOST = MOST_SESSIONS - 2


class Slots:
    """Where sessions are held: by peer, the host that it is at."""

    def __init__(self) -> None:
        self._held: dict[str, str] = {}

    def __contains__(self, peer: object) -> bool:
        return peer in self._held

    @contextmanager
    def taken(self, peer: str, host: str) -> Iterator[bool]:
        """Whether a peer at a host may have one; it does while the block lasts."""
        host = household(host)
        of_host = [*self._held.values()].count(host)
        if peer in self._held or len(self._held) >= MOST_SESSIONS or of_host >= SESSIONS_OF_A_HOST:
            yield False
            return
        self._held[peer] = host
        try:
            yield True
        finally:
            del self._held[peer]
