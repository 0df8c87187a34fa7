"""The git diff format for exactly one file, read strictly.

A diff is made here, travels in a result, and is applied here: nothing in it can name another path, a mode, a
symlink or a submodule. ``git apply`` takes the same bytes.
https://git-scm.com/docs/diff-format
"""

import difflib
import re
from collections import Counter

from protocol import zstd
from protocol.errors import RemoteProtocolError

#: An asset is source text that a person or a model edits, not data.
MAX_ASSET_BYTES = 256 * 1024
#: Every line removed and another added, with their headers.
MAX_DIFF_TEXT_BYTES = 4 * MAX_ASSET_BYTES
#: difflib's time grows with the pairs of equal lines, and thousands of the same line would hold a node up for
#: minutes; beyond this many pairs one plain replacement is as good. A thousand ordinary lines have some 50,000.
MAX_EQUAL_PAIRS = 200_000

_CONTEXT = 3
_HUNK = re.compile(rb"@@ -(\d{1,7})(?:,(\d{1,7}))? \+(\d{1,7})(?:,(\d{1,7}))? @@")
_NO_NEWLINE = b"\\ No newline at end of file"


def make_diff(old: bytes, new: bytes, path: str) -> bytes:
    """The diff that turns ``old`` into ``new``; empty where they are the same."""
    if old == new:
        return b""
    before, after = _lines(old), _lines(new)
    name = path.encode()
    head = b"diff --git a/%s b/%s\n--- a/%s\n+++ b/%s\n" % (name, name, name, name)
    return head + b"".join(_hunk(before, after, group) for group in _groups(before, after))


def apply_diff(old: bytes, diff: bytes, path: str) -> bytes:
    """``old`` with ``diff`` applied. Raises RemoteProtocolError("diff") unless it fits to the byte."""
    if not diff:
        return old
    name = path.encode()
    head = b"diff --git a/%s b/%s\n--- a/%s\n+++ b/%s\n" % (name, name, name, name)
    if len(diff) > MAX_DIFF_TEXT_BYTES or not diff.startswith(head):
        raise RemoteProtocolError("diff", f"expected a diff of {path} alone")
    before = _lines(old)
    out: list[bytes] = []
    at = 0
    rows = diff[len(head) :].split(b"\n")
    if rows.pop() != b"":
        raise RemoteProtocolError("diff", "the last line is cut")
    i = 0
    while i < len(rows):
        start, removed, added, i = _read_hunk(rows, i)
        if start < at or before[start : start + len(removed)] != removed:
            raise RemoteProtocolError("diff", "a hunk does not match its base")
        out += before[at:start] + added
        at = start + len(removed)
    new = b"".join(out + before[at:])
    if len(new) > MAX_ASSET_BYTES:
        raise RemoteProtocolError("oversize", f"the asset would have {len(new)} bytes")
    return new


def count_lines(diff: bytes) -> tuple[int, int]:
    """(lines added, lines removed) of a diff made by ``make_diff``."""
    added = removed = 0
    for row in diff.split(b"\n")[3:]:
        added += row.startswith(b"+")
        removed += row.startswith(b"-")
    return added, removed


def compress(diff: bytes) -> bytes:
    return zstd.compress(diff) if diff else b""


def decompress(packed: bytes) -> bytes:
    """Raises RemoteProtocolError for a bomb, or for what is not zstd."""
    return zstd.decompress(packed, MAX_DIFF_TEXT_BYTES) if packed else b""


def _lines(data: bytes) -> list[bytes]:
    """Lines with their newline; only ``\\n`` ends a line, as for git."""
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


_Group = list[tuple[str, int, int, int, int]]


def _groups(before: list[bytes], after: list[bytes]) -> list[_Group]:
    counts = Counter(before)
    if sum(counts[line] for line in after) > MAX_EQUAL_PAIRS:
        return [[("replace", 0, len(before), 0, len(after))]]
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    return list(matcher.get_grouped_opcodes(_CONTEXT))


def _hunk(before: list[bytes], after: list[bytes], group: _Group) -> bytes:
    first, last = group[0], group[-1]
    head = b"@@ -%s +%s @@\n" % (_span(first[1], last[2]), _span(first[3], last[4]))
    body = []
    for tag, i1, i2, j1, j2 in group:
        if tag == "equal":
            body += [_row(b" ", line) for line in before[i1:i2]]
            continue
        body += [_row(b"-", line) for line in before[i1:i2]]
        body += [_row(b"+", line) for line in after[j1:j2]]
    return head + b"".join(body)


def _span(start: int, stop: int) -> bytes:
    length = stop - start
    return b"%d,%d" % (start + 1 if length else start, length)


def _row(sign: bytes, line: bytes) -> bytes:
    return sign + line if line.endswith(b"\n") else sign + line + b"\n" + _NO_NEWLINE + b"\n"


def _read_hunk(rows: list[bytes], i: int) -> tuple[int, list[bytes], list[bytes], int]:
    """(0-based start in the old file, its lines there, the new lines, index of the next row)."""
    match = _HUNK.fullmatch(rows[i])
    if not match:
        raise RemoteProtocolError("diff", "expected a hunk header")
    old_start, old_count, _, new_count = (1 if group is None else int(group) for group in match.groups())
    start = old_start - 1 if old_count else old_start
    removed: list[bytes] = []
    added: list[bytes] = []
    i += 1
    while len(removed) < old_count or len(added) < new_count:
        if i >= len(rows) or rows[i][:1] not in (b" ", b"-", b"+"):
            raise RemoteProtocolError("diff", "a hunk is shorter than its header says")
        sign, line = rows[i][:1], rows[i][1:] + b"\n"
        i += 1
        if i < len(rows) and rows[i] == _NO_NEWLINE:
            line = line[:-1]
            i += 1
        if sign != b"+":
            removed.append(line)
        if sign != b"-":
            added.append(line)
    if len(removed) != old_count or len(added) != new_count:
        raise RemoteProtocolError("diff", "a hunk is longer than its header says")
    return start, removed, added, i
