"""Two sets of ids find what they do not share, with work that follows the difference."""

import random
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import reconcile
from protocol.errors import RemoteProtocolError
from protocol.reconcile import (
    LEAF_IDS,
    MOST_IDS,
    MOST_RANGES,
    Finder,
    IdSet,
    bounds,
    check_compared,
    check_ids,
    check_ranges,
    compare,
    differing,
    listed,
    parts,
    rest,
)


def ids(*numbers: int) -> list[bytes]:
    return [sha256(b"%d" % number).digest() for number in numbers]


def meet(one: IdSet, two: IdSet) -> tuple[set[bytes], set[bytes], int, int]:
    """What each lacks, found by talking; the round trips and the bytes that it took."""
    finder, trips, size = Finder(one), 1, 64
    while question := finder.question():
        answer = differing(two, question)
        finder.take(answer)
        trips += 1
        size += sum(len(prefix) + len(prints) + 4 for prefix, prints in question) + len(answer)
    lacks: tuple[set[bytes], set[bytes]] = (set(), set())
    ranges = finder.ranges()
    while ranges:
        asked, mine = listed(one, ranges)
        assert len(mine) <= MOST_IDS
        reached, wants, has = compare(two, asked, mine)
        check_compared(asked, mine, reached, has)
        assert len(has) <= MOST_IDS
        trips += 1
        size += 32 * (2 * len(asked) + len(mine) + len(wants) + len(has))
        lacks[0].update(has)
        lacks[1].update(wants)
        before, ranges = ranges, rest(ranges, reached)
        assert ranges != before
    return *lacks, trips, size


numbers = st.frozensets(st.integers(0, 400), max_size=300)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "LEAF_IDS", 2)
    monkeypatch.setattr(reconcile, "MOST_IDS", 7)
    monkeypatch.setattr(reconcile, "MOST_RANGES", 9)


@pytest.mark.usefixtures("small")
def test_both_find_exactly_what_they_lack() -> None:
    @settings(max_examples=200)
    @given(numbers, numbers)
    def holds(one: frozenset[int], two: frozenset[int]) -> None:
        left, right, _, _ = meet(IdSet(ids(*one)), IdSet(ids(*two)))
        assert left == set(ids(*(two - one)))
        assert right == set(ids(*(one - two)))

    holds()


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2000), max_size=400), st.lists(st.integers(0, 2000), max_size=50))
def test_a_set_that_grew_is_the_set_that_was_made_so(first: list[int], later: list[int]) -> None:
    grown = IdSet(ids(*first))
    grown.fingerprint()
    grown.split("a", 256)
    for one in ids(*later):
        grown.add(one)
        assert one in grown
    made = IdSet(ids(*first, *later))
    assert len(grown) == len(made)
    assert grown.fingerprint() == made.fingerprint()
    assert grown.split("a", 256) == made.split("a", 256)


def test_fingerprints_depend_on_what_is_in_the_range_alone() -> None:
    many = IdSet(ids(*range(5000)))
    inside = IdSet(one for one in ids(*range(5000)) if one.hex().startswith("7"))
    assert many.fingerprint("7") == inside.fingerprint("7")
    assert many.fingerprint("8") != inside.fingerprint("8")
    assert many.fingerprint("7") != many.fingerprint("")


@pytest.mark.slow
def test_one_new_of_a_hundred_thousand_costs_little() -> None:
    """Twenty kilobytes and six round trips are the goal, of which the record itself takes one."""
    held = ids(*range(100_001))
    left, right, trips, size = meet(IdSet(held[:-1]), IdSet(held))
    assert (left, right) == ({held[-1]}, set())
    assert trips <= 5
    assert size < 10_000


def test_the_work_follows_the_difference() -> None:
    held, rng = ids(*range(20_000)), random.Random(1)
    sizes = []
    for difference in (1, 10, 100):
        lost = set(rng.sample(held, difference))
        left, _, trips, size = meet(IdSet(one for one in held if one not in lost), IdSet(held))
        assert left == lost
        assert trips <= 6
        sizes.append(size)
    assert sizes[0] < 10_000
    assert sizes[2] < 60 * sizes[0] < 20_000 * 32


def test_where_all_differs_little_is_wasted() -> None:
    one, two = ids(*range(5000)), ids(*range(5000, 10_000))
    left, right, trips, size = meet(IdSet(one), IdSet(two))
    assert (len(left), len(right)) == (5000, 5000)
    assert trips <= 8
    assert size < 1.25 * 3 * 5000 * 32, "each id is named once or twice"


def test_an_empty_set_gets_everything_in_pages() -> None:
    left, _, trips, _ = meet(IdSet(), IdSet(ids(*range(10_000))))
    assert len(left) == 10_000
    assert trips <= 2 + 10_000 // MOST_IDS + 1


def test_ids_that_were_ground_to_one_prefix_are_listed_too() -> None:
    ground = [bytes(20) + sha256(b"%d" % number).digest()[:12] for number in range(LEAF_IDS * 4)]
    left, _, trips, _ = meet(IdSet([*ids(*range(100)), *ground[::2]]), IdSet([*ids(*range(100)), *ground]))
    assert left == set(ground[1::2])
    assert trips <= reconcile.MOST_QUESTIONS + 4


# ---- hostile


@pytest.mark.parametrize(
    "question",
    [
        [("", bytes(15))],
        [("", bytes(16))],
        [("", b"")],
        [("x", bytes(256))],
        [("A", bytes(256))],
        [("0" * 63, bytes(256))],
        [("", bytes(256))] * (MOST_RANGES + 1),
        [("", bytes(4096))] * 17,
    ],
)
def test_questions_that_are_none(question: list[tuple[str, bytes]]) -> None:
    with pytest.raises(RemoteProtocolError):
        differing(IdSet(ids(1)), question)


@pytest.mark.parametrize("answer", [b"", b"\x00", bytes(31), bytes(33)])
def test_answers_that_are_none(answer: bytes) -> None:
    finder = Finder(IdSet(ids(*range(1000))))
    assert len(finder.question()[0][1]) == 256 * 16
    with pytest.raises(RemoteProtocolError):
        finder.take(answer)


def test_a_peer_whose_fingerprints_never_agree_is_not_asked_for_ever() -> None:
    finder, asked = Finder(IdSet(ids(*range(100_000)))), 0
    while question := finder.question():
        asked += 1
        parts_asked = sum(len(prints) for _, prints in question) // 16
        assert parts_asked <= reconcile.MOST_PARTS
        finder.take(b"\xff" * (parts_asked // 8))
    assert asked <= reconcile.MOST_QUESTIONS
    assert finder.ranges() == [bounds("")]


LOW, HIGH = bytes(32), b"\xff" * 32


@pytest.mark.parametrize(
    "ranges",
    [[], [(b"", HIGH)], [(HIGH, LOW)], [(LOW, HIGH), (LOW, HIGH)], [(LOW, LOW), (LOW, HIGH)], [(LOW, LOW)] * 300],
)
def test_ranges_that_are_none(ranges: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(RemoteProtocolError):
        check_ranges(ranges)


@pytest.mark.parametrize(
    "wrong",
    [[b""], [bytes(31)], [LOW], [b"\x05" * 32, b"\x05" * 32], [b"\x06" * 32, b"\x05" * 32], [b"\x20" * 32], [HIGH]],
)
def test_ids_that_are_not_of_the_ranges(wrong: list[bytes]) -> None:
    ranges = [(b"\x04" * 32, b"\x10" * 32), (b"\x30" * 32, b"\x40" * 32)]
    check_ids([b"\x04" * 32, b"\x10" * 32, b"\x40" * 32], ranges)
    with pytest.raises(RemoteProtocolError, match="not of these ranges"):
        check_ids(wrong, ranges)
    with pytest.raises(RemoteProtocolError, match="not of these ranges"):
        compare(IdSet(), ranges, wrong)


@pytest.mark.parametrize("reached", [b"", LOW, ids(1)[0], HIGH + b"\0"])
def test_an_answer_stops_short_only_where_its_list_is_full(reached: bytes) -> None:
    """Else a peer could have us ask once for each of 2**256 ids."""
    check_compared([(LOW, HIGH)], [], HIGH, [])
    many = sorted(ids(*range(MOST_IDS)))
    check_compared([(LOW, HIGH)], [], many[-1], many)
    for has in ([], many[:-1], many):
        with pytest.raises(RemoteProtocolError, match="do not move on"):
            check_compared([(LOW, HIGH)], [], reached, has)


def test_an_answer_does_not_list_what_was_offered() -> None:
    with pytest.raises(RemoteProtocolError, match="offered"):
        check_compared([(LOW, HIGH)], ids(1), HIGH, ids(1))


def test_questions_about_nothing_leave_nothing_behind() -> None:
    held = IdSet(ids(*range(1000)))
    before = len(held._fingerprints)
    for number in range(200):
        differing(held, [(f"{number:040x}", bytes(256))])
    assert len(held._fingerprints) == before


def test_parts_are_the_whole() -> None:
    for number in (16, 256):
        found = [bounds(part) for part in parts("3f", number)]
        assert (found[0][0], found[-1][1]) == bounds("3f")
        check_ranges(found)
