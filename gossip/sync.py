"""The exchange of missing records over a stream: what gossip drops, this repairs.

One side asks, both get all that the other has. The space of record ids is walked in ranges: the asker sends
its ids of a range, the answerer says which of them it wants and which it has besides; then the records
follow, both ways. Neither side holds more than one range of another's ids. Replacing how the ids of a range
are compared (fingerprints in place of lists) changes ``Asker._differences`` and ``Answerer._compare`` alone.

    asker     sync swarm_id digest
    answerer  swarm swarm_id | busy | same | differ
    asker     range after last ids          last: the highest id of the range, ``TOP`` at the end
    answerer  compared last wants has       last may be lower: then the next range begins there
    asker     records [wire…]  any number of times, then: want ids
    answerer  records [wire…]  any number of times, then: done
    asker     range … | bye
"""

import hashlib
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence

import trio

from gossip import wire
from gossip.transport import Stream
from protocol.codec import MAX_ENVELOPE_BYTES
from protocol.errors import RemoteProtocolError

SYNC = "/waggle/sync/1"
#: Ids of one range: 128 KiB of them in a frame.
RANGE_IDS = 4096
#: Records of one frame: as many envelopes as fit, at most this many, so that a frame stays a page.
BATCH_RECORDS = 1024
#: Other tasks get a turn after so many records: a signature costs some 0.1 ms.
TURN_RECORDS = 8
_ID_BYTES = 32
_NONE = b""
#: Over every id.
TOP = b"\xff" * (_ID_BYTES + 1)

#: What came of a record: kept (True), held already (False); RemoteProtocolError where it is wrong.
Take = Callable[[bytes], Awaitable[bool]]


class Held:
    """The ids that a node holds, in order, and their digest. Looked up again when their number has changed:
    records are never forgotten.
    """

    def __init__(self, ids: Callable[[], Collection[str]], get: Callable[[str], bytes | None]) -> None:
        self._ids = ids
        self._get = get
        self._sorted: list[bytes] = []
        self._digest = hashlib.sha256().digest()

    def sorted(self) -> Sequence[bytes]:
        ids = self._ids()
        if len(ids) != len(self._sorted):
            self._sorted = sorted(bytes.fromhex(one) for one in ids)
            self._digest = hashlib.sha256(b"".join(self._sorted)).digest()
        return self._sorted

    @property
    def digest(self) -> bytes:
        self.sorted()
        return self._digest

    def has(self, record_id: bytes) -> bool:
        return record_id.hex() in self._ids()

    def between(self, after: bytes, last: bytes) -> Sequence[bytes]:
        """Ids over ``after``, up to and with ``last``."""
        ids = self.sorted()
        return ids[bisect_right(ids, after) : bisect_right(ids, last)]

    def wires(self, ids: Iterable[bytes]) -> Iterator[bytes]:
        for record_id in ids:
            wire_bytes = self._get(record_id.hex())
            if wire_bytes is not None:
                yield wire_bytes


class Session:
    """What both sides do. ``take`` keeps a record; ``refused`` tells ids that we don't want again."""

    def __init__(
        self, stream: Stream, held: Held, swarm_id: bytes, take: Take, refused: Callable[[str], bool]
    ) -> None:
        self._stream = stream
        self._held = held
        self._swarm_id = swarm_id
        self._take = take
        self._refused = refused
        self.received = 0

    async def _send_records(self, ids: Iterable[bytes]) -> None:
        """In batches of a page; a wire is read when its batch is made."""
        batch: list[bytes] = []
        size = 0
        for one in self._held.wires(ids):
            batch.append(one)
            size += len(one)
            if size > wire.PAGE_BYTES - MAX_ENVELOPE_BYTES or len(batch) == BATCH_RECORDS:
                await wire.say(self._stream, "records", batch)
                batch, size = [], 0
        if batch:
            await wire.say(self._stream, "records", batch)

    async def _take_records(self, batch: list[object]) -> None:
        for number, one in enumerate(batch):
            if not isinstance(one, bytes):
                raise RemoteProtocolError("sync", "a record is bytes")
            self.received += await self._take(one)
            if number % TURN_RECORDS == 0:
                await trio.lowlevel.checkpoint()

    def _missing(self, ids: Iterable[bytes]) -> list[bytes]:
        return [one for one in ids if not self._held.has(one) and not self._refused(one.hex())]


class Asker(Session):
    """The side that opened the stream."""

    async def run(self) -> None:
        """Raises RemoteProtocolError."""
        await wire.say(self._stream, "sync", self._swarm_id, self._held.digest)
        answer = await wire.hear(self._stream, "same", "differ", "swarm", "busy")
        if answer[0] == "swarm":
            raise RemoteProtocolError("swarm", "the peer is of another swarm")
        if answer[0] == "differ":
            await self._walk()

    async def _walk(self) -> None:
        after = _NONE
        while after < TOP:
            after, wants, has = await self._differences(after)
            await self._send_records(wants)
            await wire.say(self._stream, "want", b"".join(self._missing(has)))
            while (answer := await wire.hear(self._stream, "records", "done"))[0] == "records":
                await self._take_records(wire.checked(answer, str, list)[1])
        await wire.say(self._stream, "bye")

    async def _differences(self, after: bytes) -> tuple[bytes, list[bytes], list[bytes]]:
        """How far the next range went, what the peer wants of it, and what it has that we lack."""
        ids = self._held.between(after, TOP)[:RANGE_IDS]
        last = ids[-1] if len(ids) == RANGE_IDS else TOP
        await wire.say(self._stream, "range", after, last, b"".join(ids))
        _, reached, wants, has = wire.checked(
            await wire.hear(self._stream, "compared"), str, bytes, bytes, bytes
        )
        if not after < reached <= last:
            raise RemoteProtocolError("sync", "a range that does not move on")
        offered = frozenset(ids)
        return reached, [one for one in _split(wants) if one in offered], _split(has)


class Answerer(Session):
    """The side that the stream was opened to."""

    async def run(self) -> None:
        """Raises RemoteProtocolError."""
        _, swarm_id, digest = wire.checked(await wire.hear(self._stream, "sync"), str, bytes, bytes)
        if swarm_id != self._swarm_id:
            await wire.say(self._stream, "swarm", self._swarm_id)
            return
        if digest == self._held.digest:
            await wire.say(self._stream, "same")
            return
        await wire.say(self._stream, "differ")
        while (asked := await wire.hear(self._stream, "range", "bye"))[0] == "range":
            await self._answer(*wire.checked(asked, str, bytes, bytes, bytes)[1:])

    async def _answer(self, after: bytes, last: bytes, theirs: bytes) -> None:
        reached, wants, has = self._compare(after, last, _split(theirs))
        await wire.say(self._stream, "compared", reached, b"".join(wants), b"".join(has))
        while (frame := await wire.hear(self._stream, "records", "want"))[0] == "records":
            await self._take_records(wire.checked(frame, str, list)[1])
        asked = frozenset(_split(wire.checked(frame, str, bytes)[1]))
        await self._send_records(one for one in has if one in asked)
        await wire.say(self._stream, "done")

    def _compare(
        self, after: bytes, last: bytes, theirs: Sequence[bytes]
    ) -> tuple[bytes, list[bytes], list[bytes]]:
        """How far we look, what we want, and what we have besides: no more than a frame carries."""
        offered = frozenset(theirs)
        has = [one for one in self._held.between(after, last) if one not in offered]
        if len(has) > RANGE_IDS:
            has = has[:RANGE_IDS]
            last = has[-1]
        return last, self._missing(one for one in theirs if after < one <= last), has


def _split(ids: bytes) -> list[bytes]:
    if len(ids) % _ID_BYTES or len(ids) > RANGE_IDS * _ID_BYTES:
        raise RemoteProtocolError("sync", "not a list of ids")
    return [ids[start : start + _ID_BYTES] for start in range(0, len(ids), _ID_BYTES)]
