"""The exchange of missing records, without a network: whatever both sides hold, whatever one of them says."""

import hashlib
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip import sync
from gossip.sync import Answerer, Asker, Held, Session
from protocol import codec, reconcile
from protocol.errors import RemoteProtocolError

SWARM_ID = bytes(32)


class Pipe:
    """One end of a stream that has no network."""

    peer = "the other"

    def __init__(self, to: trio.MemorySendChannel[bytes], by: trio.MemoryReceiveChannel[bytes]) -> None:
        self._to = to
        self._by = by

    async def send(self, frame: bytes) -> None:
        try:
            await self._to.send(frame)
        except trio.BrokenResourceError:
            raise RemoteProtocolError("stream", "closed") from None

    async def receive(self, max_bytes: int) -> bytes:
        try:
            frame = await self._by.receive()
        except trio.EndOfChannel:
            raise RemoteProtocolError("stream", "closed") from None
        assert len(frame) <= max_bytes
        return frame

    async def aclose(self) -> None:
        self._to.close()
        self._by.close()


class Side:
    """Holds records whose id is the hash of their bytes."""

    def __init__(self, records: Collection[bytes], refused: Collection[bytes] = ()) -> None:
        self.records = {hashlib.sha256(record).hexdigest(): record for record in records}
        self.refused = {hashlib.sha256(record).hexdigest() for record in refused}
        self.taken = 0

    async def take(self, record: bytes) -> bool:
        self.taken += 1
        record_id = hashlib.sha256(record).hexdigest()
        new = record_id not in self.records
        self.records[record_id] = record
        return new

    def session(self, kind: Callable[..., Session], pipe: Pipe) -> Any:
        held = Held(self.records.keys, self.records.get)
        return kind(pipe, held, SWARM_ID, self.take, self.refused.__contains__)


async def exchange(one: Side, two: Side) -> None:
    there, here = trio.open_memory_channel[bytes](4), trio.open_memory_channel[bytes](4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.session(Asker, Pipe(there[0], here[1])).run)
        nursery.start_soon(two.session(Answerer, Pipe(here[0], there[1])).run)


def run(afn: Callable[..., Awaitable[None]], *args: Any) -> None:
    async def bounded() -> None:
        with trio.fail_after(30):
            await afn(*args)

    trio.run(bounded)


numbers = st.frozensets(st.integers(0, 60), max_size=50)


def records(of: Collection[int]) -> list[bytes]:
    return [b"record %d" % number for number in of]


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "LEAF_IDS", 2)
    monkeypatch.setattr(reconcile, "MOST_IDS", 4)
    monkeypatch.setattr(reconcile, "MOST_RANGES", 5)
    monkeypatch.setattr(sync, "BATCH_RECORDS", 3)


@pytest.mark.usefixtures("small_ranges")
def test_both_sides_hold_the_union() -> None:
    @settings(max_examples=150, deadline=None)
    @given(numbers, numbers)
    def holds(one: frozenset[int], two: frozenset[int]) -> None:
        left, right = Side(records(one)), Side(records(two))
        run(exchange, left, right)
        assert left.records == right.records == Side(records(one | two)).records
        assert (left.taken, right.taken) == (len(two - one), len(one - two))  # nothing came that was held

    holds()


@pytest.mark.usefixtures("small_ranges")
def test_what_is_refused_is_not_asked_for() -> None:
    left, right = Side(records(range(30)), refused=records([31, 32])), Side(records(range(20, 40)))
    run(exchange, left, right)
    assert left.taken == 8
    assert set(left.records) == set(right.records) - left.refused


FIELD = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3), st.binary(max_size=40),
    st.sampled_from([b"", bytes(32), b"\xff" * 32, bytes(32) + b"\xff" * 32, bytes(256), bytes(2)]),
    st.lists(st.tuples(st.text("0af", max_size=3), st.sampled_from([b"", bytes(256), b"x"])).map(list), max_size=3),
    st.lists(st.binary(max_size=5), max_size=3),
)  # fmt: skip
WORD = st.sampled_from(
    [
        "sync", "swarm", "busy", "same", "differ", "split", "parts", "ranges", "compared", "records", "want", "done",
        "bye",
    ]
)  # fmt: skip
FRAME = st.one_of(
    st.binary(max_size=50),
    st.builds(lambda word, fields: codec.encode([word, *fields]), WORD, st.lists(FIELD)),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([Asker, Answerer]), st.lists(FRAME, max_size=6))
def test_whatever_a_peer_says_only_one_error_comes_of_it(kind: type[Session], frames: list[bytes]) -> None:
    async def hear_all() -> None:
        send, receive = trio.open_memory_channel[bytes](100)
        away, _keep = trio.open_memory_channel[bytes](100)
        first = codec.encode(["differ"] if kind is Asker else ["sync", SWARM_ID, b"?"])
        for frame in (first, *frames):
            send.send_nowait(frame)
        send.close()
        with suppress(RemoteProtocolError):
            await Side(records(range(5))).session(kind, Pipe(away, receive)).run()

    run(hear_all)
