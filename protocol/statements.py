"""The statements that records carry, field by field, each with its bound.

A body is a msgpack map: every field is present, under its own name.
Fields are append-only: a later version may add fields with defaults, which older nodes ignore.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeVar

from protocol import codec
from protocol.commits import COMMIT_HEX
from protocol.errors import LocalProtocolError, RemoteProtocolError

Scalar = bool | int | float | str

#: Inline diffs leave room for the other fields in a 64 KiB envelope; a larger one is fetched by its commit.
MAX_DIFF_BYTES = 40 * 1024
#: A paragraph: what people and models read of one experiment.
MAX_TEXT_BYTES = 2 * 1024
#: A name: device, software, tier, address.
MAX_NAME_BYTES = 256
#: A node behind several networks has this many ways in.
MAX_ADDRESSES = 16
#: Enough for a smooth plot, small enough to gossip.
MAX_CURVE_POINTS = 64
#: More tunables than any search uses at a time.
MAX_TUNABLES = 64
#: A note that cites more than this cites nothing.
MAX_CITES = 16
#: Milliseconds since 1970; up to the year 2286, so that times add without overflow.
MAX_MS = 10**13
#: A century of one-second experiments.
MAX_SEQUENCE = 2**32
#: No asset within our bounds has more lines.
MAX_LINES = 10**6
#: Rule 2 counts six runs an author; some room for retries of failed ones.
MAX_INDEX = 63
#: A week: longer boxes are not this kind of research.
MAX_SECONDS = 7 * 86400.0
#: No machine has more memory than this: 1 PiB.
MAX_MEMORY = 2**50
#: Metrics beyond this are broken, not large; keeps squares finite.
MAX_METRIC = 1e100

_TIER = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


class Origin(StrEnum):
    """Why a candidate was run. Append-only."""

    BASELINE = "baseline"
    AGENT = "agent"
    REBASE = "rebase"
    RECOMBINE = "recombine"
    TRANSPLANT = "transplant"
    REPLICATION = "replication"
    CONFIRMATION = "confirmation"


#: Origins under which a candidate is told for the first time; the others run it again.
FIRST_RUNS = frozenset({Origin.AGENT, Origin.REBASE, Origin.RECOMBINE, Origin.TRANSPLANT})


class Status(StrEnum):
    """How an experiment ended. Append-only."""

    SCORED = "scored"
    STOPPED_EARLY = "stopped early"
    CRASHED = "crashed"
    TIMED_OUT = "timed out"
    OVERRAN = "overran"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Result:
    """One experiment.

    ``commit``, ``parent`` and ``blob`` are git ids in hex; ``parent`` is None for genesis. ``diff`` is zstd of the
    git-format diff against the parent, empty for genesis or where it is over its bound. ``metric`` is in the
    program's unit and direction. Seconds are of the training alone; memory is the peak of the process tree in bytes.
    ``curve`` holds (fraction of budget, training loss).
    """

    created_ms: int
    sequence: int
    commit: str
    parent: str | None
    blob: str
    diff: bytes
    lines_added: int
    lines_removed: int
    origin: Origin
    index: int
    seed: int
    status: Status
    metric: float | None
    metric_se: float | None
    holdout: float | None
    cpu_seconds: float
    wall_seconds: float
    peak_memory: int
    tier: str
    device: str
    software: str
    curve: tuple[tuple[float, float], ...]
    tunables: Mapping[str, Scalar]
    summary: str
    hypothesis: str
    failure: str


@dataclass(frozen=True, slots=True)
class Note:
    """An insight or hypothesis in words, citing record ids."""

    created_ms: int
    sequence: int
    text: str
    cites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The founder's word on a commit: the highest sequence wins, a tie is a veto."""

    created_ms: int
    sequence: int
    commit: str
    approve: bool


@dataclass(frozen=True, slots=True)
class Presence:
    """A peer is here, and how to reach it. Never stored."""

    created_ms: int
    addresses: tuple[str, ...]
    tier: str
    version: str
    metrics_address: str
    records: int
    peers: int
    experiments: int


@dataclass(frozen=True, slots=True)
class Claim:
    """ "I am about to run this candidate." Never stored."""

    created_ms: int
    commit: str
    origin: Origin
    tier: str
    tunables: Mapping[str, Scalar]
    summary: str
    budget_seconds: float


Statement = Result | Note | Verdict | Presence | Claim
S = TypeVar("S", bound=Statement)


def run_seed(commit: str, author: bytes, origin: Origin, index: int) -> int:
    """The seed of a run, 63 bits: nobody picks a lucky one or relabels a run (DESIGN section 4)."""
    text = b"\x00".join((b"waggle-seed", commit.encode(), author, origin.value.encode(), b"%d" % index))
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def unparse(statement: Statement) -> bytes:
    """The body of a statement: the canonical encoding of its fields. Raises as ``parse`` does."""
    return codec.encode(_checked(type(statement), {f.name: getattr(statement, f.name) for f in fields(statement)}))


def parse(kind: type[S], body: bytes) -> S:
    """The statement in a body. Raises RemoteProtocolError where a field is missing or out of its bound."""
    values = codec.decode(body)
    if not isinstance(values, dict):
        raise RemoteProtocolError("malformed", "a body is a map")
    return kind(**_checked(kind, values))


def _checked(kind: type[S], values: Mapping[str, Any]) -> dict[str, Any]:
    checked = {}
    for name, check in _FIELDS[kind].items():
        if name not in values:
            if name in _ADDED.get(kind, {}):
                checked[name] = _ADDED[kind][name]
                continue
            raise RemoteProtocolError("malformed", f"{kind.__name__} lacks {name}")
        try:
            checked[name] = check(values[name])
        except _OutOfBoundError as bad:
            raise RemoteProtocolError("malformed", f"{kind.__name__}.{name}: {bad}") from None
    if kind is Result:
        _check_result(checked)
    return checked


def _check_result(values: Mapping[str, Any]) -> None:
    if (values["status"] is Status.SCORED) != (values["metric"] is not None):
        raise RemoteProtocolError("malformed", "a metric belongs to a scored result, and only to it")
    if values["metric"] is None and (values["metric_se"] is not None or values["holdout"] is not None):
        raise RemoteProtocolError("malformed", "an unscored result has no metric_se or holdout")
    if values["parent"] is None and values["diff"]:
        raise RemoteProtocolError("malformed", "genesis has no diff")


class _OutOfBoundError(Exception):
    """A value is out of its bound; the text says what was expected."""


Check = Callable[[Any], Any]


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _OutOfBoundError(f"expected an integer from {low} to {high}")
        return value

    return check


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> float:
        if not isinstance(value, float) or not math.isfinite(value) or not low <= value <= high:
            raise _OutOfBoundError(f"expected a float from {low} to {high}")
        return value

    return check


def _text(max_bytes: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value.encode("utf-8", "surrogatepass")) > max_bytes:
            raise _OutOfBoundError(f"expected text of at most {max_bytes} bytes")
        return value

    return check


def _bytes(max_bytes: int) -> Check:
    def check(value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) > max_bytes:
            raise _OutOfBoundError(f"expected at most {max_bytes} bytes")
        return value

    return check


def _pattern(pattern: re.Pattern[str], what: str) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _OutOfBoundError(f"expected {what}")
        return value

    return check


def _one_of(choices: type[StrEnum]) -> Check:
    def check(value: Any) -> StrEnum:
        try:
            return choices(value)
        except ValueError:
            raise _OutOfBoundError("expected one of " + ", ".join(choices)) from None

    return check


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _OutOfBoundError("expected true or false")
    return value


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _tuple(check: Check, most: int) -> Check:
    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) > most:
            raise _OutOfBoundError(f"expected at most {most} items")
        return tuple(check(item) for item in value)

    return check_all


def _point(value: Any) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise _OutOfBoundError("expected pairs of floats")
    return _number(0.0, 2.0)(value[0]), _metric(value[1])


def _tunables(value: Any) -> dict[str, Scalar]:
    if not isinstance(value, Mapping) or len(value) > MAX_TUNABLES:
        raise _OutOfBoundError(f"expected a map of at most {MAX_TUNABLES} tunables")
    return {_short(name): _scalar(item) for name, item in value.items()}


def _scalar(value: Any) -> Scalar:
    if isinstance(value, str):
        return str(_short(value))
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(_integer(-(2**53), 2**53)(value))
    return float(_number(-MAX_METRIC, MAX_METRIC)(value))


_ms = _integer(0, MAX_MS)
_sequence = _integer(0, MAX_SEQUENCE)
_commit = _pattern(re.compile(f"[0-9a-f]{{{COMMIT_HEX}}}"), "a commit id, 40 hex digits")
_record_id = _pattern(re.compile("[0-9a-f]{64}"), "a record id, 64 hex digits")
_short = _text(MAX_NAME_BYTES)
_long = _text(MAX_TEXT_BYTES)
_metric = _number(-MAX_METRIC, MAX_METRIC)
_seconds = _number(0.0, MAX_SECONDS)
_count = _integer(0, 2**32)
_lines = _integer(0, MAX_LINES)
_tier = _pattern(_TIER, "a tier: lower-case letters, digits, '.', '-'")

_FIELDS: dict[type, dict[str, Check]] = {
    Result: {
        "created_ms": _ms,
        "sequence": _sequence,
        "commit": _commit,
        "parent": _optional(_commit),
        "blob": _commit,
        "diff": _bytes(MAX_DIFF_BYTES),
        "lines_added": _lines,
        "lines_removed": _lines,
        "origin": _one_of(Origin),
        "index": _integer(0, MAX_INDEX),
        "seed": _integer(0, 2**63 - 1),
        "status": _one_of(Status),
        "metric": _optional(_metric),
        "metric_se": _optional(_number(0.0, MAX_METRIC)),
        "holdout": _optional(_metric),
        "cpu_seconds": _seconds,
        "wall_seconds": _seconds,
        "peak_memory": _integer(0, MAX_MEMORY),
        "tier": _tier,
        "device": _short,
        "software": _short,
        "curve": _tuple(_point, MAX_CURVE_POINTS),
        "tunables": _tunables,
        "summary": _long,
        "hypothesis": _long,
        "failure": _long,
    },
    Note: {"created_ms": _ms, "sequence": _sequence, "text": _long, "cites": _tuple(_record_id, MAX_CITES)},
    Verdict: {"created_ms": _ms, "sequence": _sequence, "commit": _commit, "approve": _boolean},
    Presence: {
        "created_ms": _ms,
        "addresses": _tuple(_short, MAX_ADDRESSES),
        "tier": _tier,
        "version": _short,
        "metrics_address": _short,
        "records": _count,
        "peers": _count,
        "experiments": _count,
    },
    Claim: {
        "created_ms": _ms,
        "commit": _commit,
        "origin": _one_of(Origin),
        "tier": _tier,
        "tunables": _tunables,
        "summary": _short,
        "budget_seconds": _seconds,
    },
}

#: Fields that came later, and what stands for them in what was said before.
_ADDED: dict[type, dict[str, Any]] = {Claim: {"summary": ""}}

for _kind, _checks in _FIELDS.items():
    if set(_checks) != {f.name for f in fields(_kind)}:
        raise LocalProtocolError(f"every field of {_kind.__name__} needs a bound")
