"""The exchange of missing records, without a network: whatever both sides hold, whatever one of them says."""

import hashlib
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any, TypeVar

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
        self.sent = 0

    async def send(self, frame: bytes) -> None:
        self.sent += len(frame)
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

    def __init__(self, records: Collection[bytes], refused: Collection[bytes] = (), held: type[Held] = Held) -> None:
        self.held = held
        self.records = {hashlib.sha256(record).hexdigest(): record for record in records}
        self.refused = {hashlib.sha256(record).hexdigest() for record in refused}
        self.taken = 0

    async def take(self, record: bytes, wanted: set[str]) -> bool:
        self.taken += 1
        record_id = hashlib.sha256(record).hexdigest()
        wanted.remove(record_id)
        new = record_id not in self.records
        self.records[record_id] = record
        return new

    def session(self, kind: Callable[..., Session], pipe: Pipe) -> Any:
        held = self.held(self.records.keys, self.records.get)
        return kind(pipe, held, SWARM_ID, self.take, self.refused.__contains__)


async def exchange(one: Side, two: Side) -> int:
    """The bytes that both sent."""
    there, here = trio.open_memory_channel[bytes](4), trio.open_memory_channel[bytes](4)
    ours, theirs = Pipe(there[0], here[1]), Pipe(here[0], there[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.session(Asker, ours).run)
        nursery.start_soon(two.session(Answerer, theirs).run)
    return ours.sent + theirs.sent


T = TypeVar("T")


def run(afn: Callable[..., Awaitable[T]], *args: Any) -> T:
    async def bounded() -> T:
        with trio.fail_after(30):
            return await afn(*args)

    return trio.run(bounded)


numbers = st.frozensets(st.integers(0, 60), max_size=50)


def records(of: Collection[int]) -> list[bytes]:
    return [b"record %d" % number for number in of]


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "LEAF_IDS", 2)
    monkeypatch.setattr(reconcile, "MOST_IDS", 4)
    monkeypatch.setattr(reconcile, "MOST_RANGES", 5)
    monkeypatch.setattr(sync, "BATCH_BYTES", 20)


@pytest.mark.usefixtures("small_ranges")
def test_both_sides_hold_the_union() -> None:
    @settings(max_examples=150)
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


def test_what_is_refused_costs_its_range_each_time_and_no_more() -> None:
    all_ = records(range(5001))
    left, right = Side(all_[:-1], refused=all_[-1:]), Side(all_)
    for _ in range(2):
        assert run(exchange, left, right) < 10_000
        assert run(exchange, right, left) < 10_000
    assert (left.taken, right.taken) == (0, 0)


class Disagreeing(Held):
    """Of a peer whose fingerprints never agree."""

    @property
    def ids(self) -> reconcile.IdSet:
        return Scrambled(super().ids.between(LOW, HIGH))


class Scrambled(reconcile.IdSet):
    def fingerprint(self, prefix: str = "") -> bytes:
        return hashlib.sha256(b"scrambled" + super().fingerprint(prefix)).digest()[: reconcile.FINGERPRINT_BYTES]


def test_fingerprints_that_never_agree_cost_no_more_than_an_empty_peer() -> None:
    all_ = records(range(6000))
    for one, two in ((Held, Disagreeing), (Disagreeing, Held)):
        assert run(exchange, Side(all_, held=one), Side(all_, held=two)) < 2 * 6000 * reconcile.ID_BYTES


LOW, HIGH = bytes(32), b"\xff" * 32
OURS, NEW = (sorted(hashlib.sha256(one).digest() for one in records(of)) for of in (range(5), range(5, 7)))
ALL = ["ranges", LOW + HIGH, b""]


def ended(kind: type[Session], frames: list[list[Any]]) -> str:
    """Why a session with a peer that says this comes to an end; it holds five records."""

    async def hear_all() -> str:
        send, receive = trio.open_memory_channel[bytes](1000)
        away, _keep = trio.open_memory_channel[bytes](1000)
        for frame in frames:
            send.send_nowait(codec.encode(frame))
        send.close()
        with pytest.raises(RemoteProtocolError) as caught:
            await Side(records(range(5))).session(kind, Pipe(away, receive)).run()
        return str(caught.value)

    return run(hear_all)


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([["compared", LOW, b"", b""]], "ranges that do not move on"),
        ([["compared", HIGH + HIGH, b"", b""]], "ranges that do not move on"),
        ([["compared", HIGH, b"", OURS[0]]], "ids that were offered"),
        ([["compared", HIGH, b"", NEW[1] + NEW[0]]], "not in order"),
        ([["compared", HIGH, b"", NEW[0][1:]]], "not a list of ids"),
        ([["compared", HIGH, b"", bytes(32 * (reconcile.MOST_IDS + 1))]], "not a list of ids"),
        ([["compared", HIGH, b"", NEW[0]], ["done"]], "did not come"),
        ([["compared", HIGH, b"", NEW[0]], ["records", records([5, 6])]], "not the records that were asked for"),
        ([["compared", HIGH, b"", NEW[0]], ["records", []]], "not the records that were asked for"),
        ([["compared", HIGH, b"", NEW[0]], ["records", [5]]], "a record is bytes"),
    ],
)
def test_an_answerer_that_lies_is_named(frames: list[list[Any]], why: str) -> None:
    assert why in ended(Asker, [["differ"], *frames])


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([ALL, ["want", b""], ALL], "ranges that do not move on"),
        ([["ranges", HIGH + LOW, b""]], "ranges that are not in order"),
        ([["ranges", LOW + OURS[0] + HIGH, b""]], "a range without end"),
        ([["ranges", LOW + OURS[0], HIGH]], "not of these ranges"),
        ([["ranges", LOW + HIGH, NEW[0]], ["want", b""]], "did not come"),
        ([["ranges", LOW + HIGH, NEW[0]], ["records", records([5, 6])]], "not the records that were asked for"),
        ([ALL, ["records", records([5])]], "not the records that were asked for"),
        ([["split", [["", bytes(256)]]]] * (reconcile.MOST_QUESTIONS + 1), "questions without end"),
        (
            [
                frame
                for number in range(reconcile.MOST_LISTINGS + 1)
                for frame in (["ranges", 2 * number.to_bytes(32, "big"), b""], ["want", b""])
            ],
            "questions without end",
        ),
    ],
)
def test_an_asker_that_lies_is_named(frames: list[list[Any]], why: str) -> None:
    assert why in ended(Answerer, [["sync", SWARM_ID, b"?"], *frames])


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


@settings(max_examples=300)
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
