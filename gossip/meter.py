"""What a swarm tells whoever counts: records as they come, and rounds of sync."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from gossip.transport import Stream

#: By which way a record came that was new here.
BY_GOSSIP, BY_SYNC = WAYS = ("gossip", "sync")
#: Who began a round of sync: we, or the peer.
ASKED, ANSWERED = SIDES = ("asked", "answered")


class Meter(Protocol):
    def published(self) -> None:
        """A message of ours was given to gossip."""
        ...

    def came(self, way: str, seconds: float) -> None:
        """A record that is new here came by one of WAYS, so long after its author made it, by both clocks."""
        ...

    def synced(self, side: str, done: bool, sent: int, received: int) -> None:
        """A round of sync ended; ``done`` where it came to its end. Bytes of frames."""
        ...


class Unmetered:
    """Counts nothing."""

    def published(self) -> None: ...
    def came(self, way: str, seconds: float) -> None: ...
    def synced(self, side: str, done: bool, sent: int, received: int) -> None: ...


class MeteredStream:
    """A stream that counts the bytes of its frames."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.sent = 0
        self.received = 0

    @property
    def peer(self) -> str:
        return self._stream.peer

    async def send(self, frame: bytes) -> None:
        await self._stream.send(frame)
        self.sent += len(frame)

    async def receive(self, max_bytes: int) -> bytes:
        frame = await self._stream.receive(max_bytes)
        self.received += len(frame)
        return frame

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def metered(meter: Meter, side: str, stream: Stream) -> Iterator[MeteredStream]:
    """One round of sync over ``stream``, told however it ends."""
    counting = MeteredStream(stream)
    done = False
    try:
        yield counting
        done = True
    finally:
        meter.synced(side, done, counting.sent, counting.received)
