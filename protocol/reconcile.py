"""Which records two nodes do not share, found by talking about ranges of ids: range-based set reconciliation
(Aljoscha Meyer, SRDS 2023, https://arxiv.org/abs/2212.13567), without any input or output.

Both compare fingerprints of ranges of the ids' space; ranges that agree are done with, others are split until they
are short enough to list what is in them. The work follows the difference: a few hundred bytes for each range that
differs, and a number of rounds that grows with the logarithm of the set.

Here the ranges are the nodes of a prefix tree over the ids, and a fingerprint is a hash over the ids of a short
range, or over the fingerprints of its parts. Sums of ids, which the paper suggests for ranges of any bounds, can be
forged by an author who grinds ids (Wagner's generalised birthday, https://doi.org/10.1007/3-540-45708-9_19): with some
ten thousand records of his own he could hide one of another's. A hash of a hash he can't.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import pairwise

from protocol.errors import RemoteProtocolError

ID_BYTES = 32
#: Short enough to be listed: a kilobyte of ids costs no more than another round.
LEAF_IDS = 32
#: A collision among all fingerprints ever compared stays out of reach, by accident and on purpose.
FINGERPRINT_BYTES = 16
#: Parts of a range that is split: by a hexadecimal digit, or two where many are left, which saves a round.
PARTS, MANY_PARTS = 16, 256
#: Ranges of one question. Where more differ, all is different, and listing is cheaper than splitting on.
MOST_RANGES = 256
#: Fingerprints of one question; to compare them takes some 40 ms.
MOST_PARTS = MOST_RANGES * PARTS
#: Questions of one session. Ids are hashes: five digits tell a hundred million apart.
MOST_QUESTIONS = 16
#: Ids listed in one message: 128 KiB.
MOST_IDS = 4096
#: Listings of one session: a million ids. What is left after that is found by the next one.
MOST_LISTINGS = 256

_DIGITS = 2 * ID_BYTES
_LAST = b"\xff" * ID_BYTES

#: The first and the last id of a range, both in it.
Range = tuple[bytes, bytes]
#: A prefix (hexadecimal digits) and the fingerprints of its parts, joined.
Split = tuple[str, bytes]


class IdSet:
    """Record ids in order, with the fingerprint of every prefix; an id that is added changes a few of them."""

    def __init__(self, ids: Iterable[bytes] = ()) -> None:
        self._ids = sorted(set(ids))
        self._fingerprints: dict[str, bytes] = {}  # of ranges that are long; the others are quickly made
        self._deepest = 0

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, one: bytes) -> bool:
        at = bisect_left(self._ids, one)
        return at < len(self._ids) and self._ids[at] == one

    def add(self, one: bytes) -> None:
        """An id that may be there already."""
        if one not in self:
            insort(self._ids, one)
            digits = one.hex()
            for length in range(self._deepest + 1):
                self._fingerprints.pop(digits[:length], None)

    def between(self, first: bytes, last: bytes) -> Sequence[bytes]:
        """Ids from ``first`` to ``last``, both in it."""
        return self._ids[bisect_left(self._ids, first) : bisect_right(self._ids, last)]

    def count(self, prefix: str) -> int:
        first, last = bounds(prefix)
        return bisect_right(self._ids, last) - bisect_left(self._ids, first)

    def fingerprint(self, prefix: str = "") -> bytes:
        """Of the ids that begin so; it depends on them alone, and not on how they came."""
        found = self._fingerprints.get(prefix)
        if found is None:
            if self.count(prefix) <= LEAF_IDS:
                return _hash(b"ids", self.between(*bounds(prefix)))
            found = self._fingerprints[prefix] = _hash(b"parts", map(self.fingerprint, parts(prefix, PARTS)))
            self._deepest = max(self._deepest, len(prefix))
        return found

    def split(self, prefix: str, number: int) -> Split:
        return prefix, b"".join(map(self.fingerprint, parts(prefix, number)))


class Finder:
    """The asking side: ``question`` and ``take`` in turn until there are no more; then ``ranges`` differ.

    Raises RemoteProtocolError("sync") for answers that are none.
    """

    def __init__(self, ids: IdSet) -> None:
        self._ids = ids
        self._differ = [""]
        self._asked: list[Split] = []
        self._questions = 0

    def question(self) -> list[Split]:
        """What to ask next; nothing where all ranges that differ are short, or too many to go on."""
        long = [one for one in self._differ if self._ids.count(one) > LEAF_IDS and _can_be_split(one)]
        if len(self._differ) > MOST_RANGES or self._questions == MOST_QUESTIONS:
            long = []
        self._questions += 1
        many = len(long) * MANY_PARTS <= MOST_PARTS
        self._asked = [self._ids.split(one, self._parts(one) if many else PARTS) for one in long]
        return self._asked

    def take(self, answer: bytes) -> None:
        """A bit for each part that was asked about: set where it differs."""
        numbers = [len(fingerprints) // FINGERPRINT_BYTES for _, fingerprints in self._asked]
        if len(answer) * 8 != sum(numbers):
            raise RemoteProtocolError("sync", "not an answer to what was asked")
        asked = {prefix for prefix, _ in self._asked}
        differ = [prefix for prefix in self._differ if prefix not in asked]
        at = 0
        for (prefix, _), number in zip(self._asked, numbers, strict=True):
            differ += _marked(answer[at : at + number // 8], parts(prefix, number))
            at += number // 8
        self._differ = sorted(differ)

    def ranges(self) -> list[Range]:
        """In order, those that touch joined to one."""
        joined: list[Range] = []
        for first, last in map(bounds, self._differ):
            if joined and _next(joined[-1][1]) == first:
                first = joined.pop()[0]
            joined.append((first, last))
        return joined

    def _parts(self, prefix: str) -> int:
        return MANY_PARTS if self._ids.count(prefix) > PARTS * LEAF_IDS else PARTS


def differing(ids: IdSet, question: Sequence[Split]) -> bytes:
    """The answering side of ``Finder``. Raises RemoteProtocolError("sync") for a question that is none."""
    if len(question) > MOST_RANGES:
        raise RemoteProtocolError("sync", f"{len(question)} ranges, at most {MOST_RANGES}")
    if sum(len(fingerprints) for _, fingerprints in question) > MOST_PARTS * FINGERPRINT_BYTES:
        raise RemoteProtocolError("sync", f"more than {MOST_PARTS} fingerprints")
    answer = b""
    for prefix, fingerprints in question:
        number, left = divmod(len(fingerprints), FINGERPRINT_BYTES)
        if number not in (PARTS, MANY_PARTS) or left or not _can_be_split(prefix):
            raise RemoteProtocolError("sync", "not a range that can be split")
        bits = [
            ids.fingerprint(part) != fingerprints[at * FINGERPRINT_BYTES : (at + 1) * FINGERPRINT_BYTES]
            for at, part in enumerate(parts(prefix, number))
        ]
        answer += sum(bit << at for at, bit in enumerate(bits)).to_bytes(number // 8, "little")
    return answer


def listed(ids: IdSet, ranges: Sequence[Range]) -> tuple[list[Range], list[bytes]]:
    """As many of the ranges as one message can list, the last maybe in part, and our ids in them."""
    taken: list[Range] = []
    found: list[bytes] = []
    for first, last in ranges[:MOST_RANGES]:
        inside = ids.between(first, last)
        room = MOST_IDS - len(found)
        if len(inside) > room:
            if room:
                taken.append((first, inside[room - 1]))
                found += inside[:room]
            break
        taken.append((first, last))
        found += inside
    return taken, found


def compare(ids: IdSet, ranges: Sequence[Range], offered: Sequence[bytes]) -> tuple[bytes, list[bytes], list[bytes]]:
    """How far we looked, which of the ``offered`` ids we lack, and what we have besides in these ranges.

    Raises RemoteProtocolError("sync") for ranges that are not in order, and for ids that are not theirs.
    """
    check_ranges(ranges)
    check_ids(offered, ranges)
    theirs = frozenset(offered)
    reached, has = ranges[-1][1], []
    for first, last in ranges:
        has += [one for one in ids.between(first, last) if one not in theirs]
        if len(has) > MOST_IDS:
            has = has[:MOST_IDS]
            reached = has[-1]
            break
    return reached, [one for one in offered if one <= reached and one not in ids], has


def check_compared(ranges: Sequence[Range], offered: Sequence[bytes], reached: bytes, has: Sequence[bytes]) -> None:
    """Raises RemoteProtocolError("sync") for an answer that ``compare`` never gives: it stops short only where its
    list is full, so that a session comes to its end.
    """
    full = len(has) == MOST_IDS and reached == has[-1]
    if reached != ranges[-1][1] and not full:
        raise RemoteProtocolError("sync", "ranges that do not move on")
    check_ids(has, ranges)
    if not frozenset(offered).isdisjoint(has):
        raise RemoteProtocolError("sync", "ids that were offered")


def rest(ranges: Sequence[Range], reached: bytes) -> list[Range]:
    """What of the ranges lies over ``reached``."""
    return [(max(first, _next(reached)), last) for first, last in ranges if last > reached]


def check_ranges(ranges: Sequence[Range]) -> None:
    """Raises RemoteProtocolError("sync") unless they are some, in order and apart."""
    ends = [end for one in ranges for end in one]
    if not 0 < len(ranges) <= MOST_RANGES or any(len(end) != ID_BYTES for end in ends):
        raise RemoteProtocolError("sync", "not ranges of ids")
    if any(first > last for first, last in ranges) or any(before[1] >= after[0] for before, after in pairwise(ranges)):
        raise RemoteProtocolError("sync", "ranges that are not in order")


def check_ids(ids: Sequence[bytes], ranges: Sequence[Range]) -> None:
    """Raises RemoteProtocolError("sync") unless they are in order, each in one of the ranges, which are in order."""
    firsts = [first for first, _ in ranges]
    for before, one in pairwise((b"", *ids)):
        at = bisect_right(firsts, one) - 1
        if one <= before or at < 0 or one > ranges[at][1]:
            raise RemoteProtocolError("sync", "ids that are not of these ranges, or not in order")


def bounds(prefix: str) -> Range:
    return bytes.fromhex(prefix.ljust(_DIGITS, "0")), bytes.fromhex(prefix.ljust(_DIGITS, "f"))


def parts(prefix: str, number: int) -> Iterator[str]:
    """The prefixes of so many parts of a range, in order."""
    digits = 1 if number == PARTS else 2
    return (f"{prefix}{part:0{digits}x}" for part in range(number))


def _marked(bits: bytes, names: Iterable[str]) -> list[str]:
    mask = int.from_bytes(bits, "little")
    return [name for at, name in enumerate(names) if mask >> at & 1]


def _hash(sort: bytes, pieces: Iterable[bytes]) -> bytes:
    return sha256(sort + b"".join(pieces)).digest()[:FINGERPRINT_BYTES]


def _can_be_split(prefix: str) -> bool:
    return len(prefix) <= _DIGITS - 2 and set(prefix) <= set("0123456789abcdef")


def _next(one: bytes) -> bytes:
    """The id after; the last one's is longer than any id, and over all."""
    if one == _LAST:
        return _LAST + b"\0"
    return (int.from_bytes(one, "big") + 1).to_bytes(ID_BYTES, "big")
