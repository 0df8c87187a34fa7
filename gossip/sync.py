"""The exchange of missing records over a stream: what gossip drops, this repairs.

One side asks, both get all that the other has. Which records differ is found by ``protocol.reconcile``; then the ids
in the ranges that differ are listed, and the records follow, both ways. A frame holds some hundred kilobytes of ids
or some records, and nothing is kept of it but what was checked.

Each listing moves on, and brings as many records as were asked for: a peer that does otherwise ends the session, with
RemoteProtocolError("sync"). Questions and listings are counted, and the caller bounds the time. A peer whose
fingerprints never agree gets, at worst, all our ids listed, which is what it would get if it held nothing.

Fingerprints are over what is held. A record that was refused differs for as long as a peer holds it; that costs the
range it is in, and its id, and the record does not travel again.

    asker     sync swarm_id fingerprint            of all ids
    answerer  swarm swarm_id | busy | same | differ
    asker     split [[prefix fingerprints]…]       any number of times, each answered by
    answerer  parts bits                           of the parts that differ
    asker     ranges bounds ids                    first and last id of each range, and what the asker has in them
    answerer  compared reached wants has           reached is lower than the last where ``has`` is full: then the rest
                                                   is asked again
    asker     records [wire…]  any number of times, then: want ids
    answerer  records [wire…]  any number of times, then: done
    asker     ranges … | bye
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import Any

import trio

from gossip import wire
from gossip.transport import Stream
from protocol.errors import RemoteProtocolError
from protocol.reconcile import (
    ID_BYTES,
    MOST_IDS,
    MOST_LISTINGS,
    MOST_QUESTIONS,
    Finder,
    IdSet,
    Range,
    check_compared,
    check_ranges,
    compare,
    differing,
    listed,
    rest,
)

SYNC = "/waggle/sync/2"
#: Records of one frame: so many bytes, and the last one. On a slow link that carries much else, it comes in time.
BATCH_BYTES = 16 * 1024
#: Other tasks get a turn after so many records: a signature costs some 0.1 ms.
TURN_RECORDS = 8

#: Whether a record was kept, of those with these ids, from which it is then taken; RemoteProtocolError to end all.
Take = Callable[[bytes, set[str]], Awaitable[bool]]


class Held:
    """The ids that a node holds, which only ever become more, and in the order in which they came."""

    def __init__(self, ids: Callable[[], Collection[str]], get: Callable[[str], bytes | None]) -> None:
        self._all = ids
        self._get = get
        self._known = IdSet()
        self._taken = 0

    @property
    def ids(self) -> IdSet:
        ids = self._all()
        if len(ids) - self._taken > len(ids) // 2:
            self._known = IdSet(map(bytes.fromhex, ids))
        elif len(ids) > self._taken:
            for one in islice(ids, self._taken, None):
                self._known.add(bytes.fromhex(one))
        self._taken = len(ids)
        return self._known

    def has(self, record_id: bytes) -> bool:
        return record_id.hex() in self._all()

    def wires(self, ids: Iterable[bytes]) -> Iterator[bytes]:
        for record_id in ids:
            wire_bytes = self._get(record_id.hex())
            if wire_bytes is not None:
                yield wire_bytes


class Session:
    """What both sides do. ``take`` keeps a record; ``refused`` tells ids that we don't want again."""

    def __init__(self, stream: Stream, held: Held, swarm_id: bytes, take: Take, refused: Callable[[str], bool]) -> None:
        self._stream = stream
        self._held = held
        self._swarm_id = swarm_id
        self._take = take
        self._refused = refused
        self.received = 0
        self.sent = 0

    async def _send_records(self, ids: Iterable[bytes]) -> None:
        """In batches; a wire is read when its batch is made."""
        batch: list[bytes] = []
        size = 0
        for one in self._held.wires(ids):
            batch.append(one)
            size += len(one)
            if size > BATCH_BYTES:
                await self._send_batch(batch)
                batch, size = [], 0
        if batch:
            await self._send_batch(batch)

    async def _send_batch(self, batch: list[bytes]) -> None:
        await wire.say(self._stream, "records", batch)
        self.sent += len(batch)

    async def _take_records(self, ids: Collection[bytes], end: str) -> list[Any]:
        """The records of these ids, which the peer said it has; the frame that follows them."""
        number, wanted = len(ids), {one.hex() for one in ids}
        while (frame := await wire.hear(self._stream, "records", end))[0] == "records":
            batch = wire.checked(frame, str, list)[1]
            number -= len(batch)
            if not batch or number < 0:
                raise RemoteProtocolError("sync", "not the records that were asked for")
            await self._take_batch(batch, wanted)
        if number:
            raise RemoteProtocolError("sync", "records that were promised did not come")
        return frame

    async def _take_batch(self, batch: list[object], wanted: set[str]) -> None:
        for number, one in enumerate(batch):
            if not isinstance(one, bytes):
                raise RemoteProtocolError("sync", "a record is bytes")
            self.received += await self._take(one, wanted)
            if number % TURN_RECORDS == 0:
                await trio.lowlevel.checkpoint()

    def _missing(self, ids: Iterable[bytes]) -> list[bytes]:
        return [one for one in ids if not self._held.has(one) and not self._refused(one.hex())]


class Asker(Session):
    """The side that opened the stream."""

    async def run(self) -> bool:
        """False where the peer is busy and nothing came of it. Raises RemoteProtocolError."""
        await wire.say(self._stream, "sync", self._swarm_id, self._held.ids.fingerprint())
        answer = await wire.hear(self._stream, "same", "differ", "swarm", "busy")
        if answer[0] == "swarm":
            raise RemoteProtocolError("swarm", "the peer is of another swarm")
        if answer[0] == "differ":
            ranges = await self._find()
            for _ in range(MOST_LISTINGS):
                if ranges:
                    ranges = rest(ranges, await self._exchange(ranges))
            await wire.say(self._stream, "bye")
        return bool(answer[0] != "busy")

    async def _find(self) -> list[Range]:
        """Where we differ."""
        finder = Finder(self._held.ids)
        while question := finder.question():
            await wire.say(self._stream, "split", [list(split) for split in question])
            finder.take(wire.checked(await wire.hear(self._stream, "parts"), str, bytes)[1])
        return finder.ranges()

    async def _exchange(self, ranges: list[Range]) -> bytes:
        """Both sides' records in the first of the ranges; how far it went."""
        asked, ids = listed(self._held.ids, ranges)
        await wire.say(self._stream, "ranges", b"".join(end for one in asked for end in one), b"".join(ids))
        frame = wire.checked(await wire.hear(self._stream, "compared"), str, bytes, bytes, bytes)
        reached: bytes = frame[1]
        wants, has = _split(frame[2]), _split(frame[3])
        check_compared(asked, ids, reached, has)
        offered = frozenset(ids)
        await self._send_records(one for one in wants if one in offered)
        missing = self._missing(has)
        await wire.say(self._stream, "want", b"".join(missing))
        await self._take_records(missing, "done")
        return reached


class Answerer(Session):
    """The side that the stream was opened to."""

    async def run(self) -> None:
        """Raises RemoteProtocolError."""
        _, swarm_id, fingerprint = wire.checked(await wire.hear(self._stream, "sync"), str, bytes, bytes)
        if swarm_id != self._swarm_id:
            await wire.say(self._stream, "swarm", self._swarm_id)
            return
        if fingerprint == self._held.ids.fingerprint():
            await wire.say(self._stream, "same")
            return
        await wire.say(self._stream, "differ")
        questions = listings = 0
        reached = b""
        while (asked := await wire.hear(self._stream, "split", "ranges", "bye"))[0] != "bye":
            if asked[0] == "split":
                questions += 1
                question = [_pair(one) for one in wire.checked(asked, str, list)[1]]
                await wire.say(self._stream, "parts", differing(self._held.ids, question))
            else:
                listings += 1
                reached = await self._answer(reached, *wire.checked(asked, str, bytes, bytes)[1:])
            if questions > MOST_QUESTIONS or listings > MOST_LISTINGS:
                raise RemoteProtocolError("sync", "questions without end")

    async def _answer(self, after: bytes, bounds: bytes, theirs: bytes) -> bytes:
        """Both sides' records in ranges over ``after``; how far it went."""
        ranges = _ranges(bounds)
        if ranges[0][0] <= after:
            raise RemoteProtocolError("sync", "ranges that do not move on")
        reached, wants, has = compare(self._held.ids, ranges, _split(theirs))
        wants = self._missing(wants)
        await wire.say(self._stream, "compared", reached, b"".join(wants), b"".join(has))
        frame = await self._take_records(wants, "want")
        asked = frozenset(_split(wire.checked(frame, str, bytes)[1]))
        await self._send_records(one for one in has if one in asked)
        await wire.say(self._stream, "done")
        return reached


def _ranges(bounds: bytes) -> list[Range]:
    ends = _split(bounds)
    ranges = list(zip(ends[::2], ends[1::2], strict=False))
    check_ranges(ranges)
    if len(ends) % 2:
        raise RemoteProtocolError("sync", "a range without end")
    return ranges


def _split(ids: bytes) -> list[bytes]:
    if len(ids) % ID_BYTES or len(ids) > MOST_IDS * ID_BYTES:
        raise RemoteProtocolError("sync", "not a list of ids")
    return [ids[start : start + ID_BYTES] for start in range(0, len(ids), ID_BYTES)]


def _pair(one: object) -> tuple[str, bytes]:
    if not isinstance(one, list):
        raise RemoteProtocolError("sync", "not a range that can be split")
    prefix, fingerprints = wire.checked(one, str, bytes)
    return prefix, fingerprints
