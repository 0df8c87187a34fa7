"""The fields of program.md: for each, what is expected, and the line on which it stands.

Whatever is wrong, the error names line, field and what was expected, so that it can be mended without a
manual.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from protocol.errors import LocalProtocolError, RemoteProtocolError, UserError
from protocol.identity import public_key_of
from protocol.manifest import check_path

FENCE = "+++"
_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?(MiB|GiB)")
#: Below this, numpy alone does not load; above, nobody's machine.
MEMORY_BOUNDS = (64 << 20, 4096 << 30)
#: A second is the least that start-up jitter leaves meaningful; a day is the most a loop can wait.
SECONDS_BOUNDS = (1, 86400)
#: The ledger counts at most six runs of an author; more authors than this rarely share a tier.
MAX_REPLICATIONS = 16


class ProgramError(UserError):
    """What is wrong in a program.md: "program.md line 12: budget.seconds: expected …, got …"."""


class _Unfit(Exception):  # noqa: N818
    """A value is not what its field expects."""


@dataclass(frozen=True)
class Field:
    """One key: how to read it, and how to say what was expected. Without a default it must be there."""

    read: Callable[[Any], Any]
    expected: str
    default: Any = ...


def _text(pattern: str) -> Callable[[Any], str]:
    compiled = re.compile(pattern)

    def read(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise _Unfit
        return value

    return read


def _one_of(*words: str) -> Field:
    def read(value: Any) -> str:
        if value not in words:
            raise _Unfit
        return str(value)

    quoted = [f'"{word}"' for word in words]
    return Field(read, " or ".join((", ".join(quoted[:-1]), quoted[-1])), words[0])


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Unfit
    return value


def _number(low: float, high: float = math.inf, *, open_low: bool = False) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _Unfit
        if value > high or value < low or (open_low and value == low):
            raise _Unfit
        return float(value)

    return read


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _Unfit
        return value

    return read


def _memory(value: Any) -> int:
    match = _MEMORY.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise _Unfit
    size = int(float(match[1]) * _UNITS[match[2]])
    if not MEMORY_BOUNDS[0] <= size <= MEMORY_BOUNDS[1]:
        raise _Unfit
    return size


def _path(value: Any) -> str:
    try:
        check_path(value)
    except (LocalProtocolError, AttributeError) as error:
        raise _Unfit from error
    return str(value)


def _peer(value: Any) -> str:
    try:
        public_key_of(value)
    except (RemoteProtocolError, AttributeError, TypeError) as error:
        raise _Unfit from error
    return str(value)


_FILE = "the path of a file in the program's folder"
_MANY = 10**9

#: Every key that a program.md may have, by its dotted name.
FIELDS: Mapping[str, Field] = {
    "name": Field(_text(r"[a-z0-9][a-z0-9-]{0,39}"), "1 to 40 of a-z, 0-9 and -, in quotes"),
    "asset": Field(_path, f"{_FILE}, the one that may change"),
    "runner": Field(_path, _FILE, "runner.py"),
    "evaluator": Field(_path, _FILE, "evaluator.py"),
    "replications": Field(_integer(1, MAX_REPLICATIONS), f"a whole number from 1 to {MAX_REPLICATIONS}", 2),
    "memory": Field(_memory, 'a size like "8 GiB" or "512 MiB", at least 64 MiB', 8 << 30),
    "simplicity": Field(_number(0), "a number, 0 or more", 0.0),
    "founder": Field(_peer, 'a peer id like "12D3KooW…"', None),
    "review": _one_of("none", "required"),
    "metric.name": Field(_text(r"[a-z][a-z0-9_]{0,39}"), "1 to 40 of a-z, 0-9 and _, in quotes"),
    "metric.goal": _one_of("minimize", "maximize"),
    "metric.unit": Field(_text(r"[ -~µ°]{0,32}"), "at most 32 characters, in quotes", ""),
    "metric.noise": Field(_number(0, open_low=True), "a number above 0, in the metric's unit"),
    "budget.seconds": Field(_number(*SECONDS_BOUNDS), "a number from {} to {}".format(*SECONDS_BOUNDS)),
    "budget.clock": _one_of("auto", "cpu", "wall"),
    "budget.stop_early": Field(_boolean, "true or false", True),
    "stop.experiments": Field(_integer(1, _MANY), "a whole number, 1 or more", None),
    "stop.hours": Field(_number(0, open_low=True), "a number above 0", None),
    "stop.target": Field(_number(-math.inf), "a number, in the metric's unit", None),
    "stop.patience": Field(_integer(1, _MANY), "a whole number, 1 or more", None),
    "data.source": Field(
        _text(r"text|pypi:[A-Za-z0-9._-]{1,80}==[A-Za-z0-9.]{1,40}"),
        '"text" or "pypi:PACKAGE==VERSION"',
        None,
    ),
    "data.sha256": Field(_text(r"[0-9a-f]{64}"), "64 hexadecimal digits, in quotes", None),
    "data.prepared": Field(_text(r"[0-9a-f]{64}"), "64 hexadecimal digits, in quotes", None),
    "data.exam": Field(_integer(10_000, _MANY), "bytes of text, 10000 or more", None),
}
TABLES = {name.partition(".")[0] for name in FIELDS if "." in name}


def split(text: str) -> tuple[str, str]:
    """(front matter, prose). The first line is ``+++``, and so is the line that ends the front matter."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != FENCE:
        raise ProgramError(f"program.md line 1: expected {FENCE}, the start of the front matter")
    for number, line in enumerate(lines[1:], start=1):
        if line.strip() == FENCE:
            return "\n".join(lines[1:number]) + "\n", "\n".join(lines[number + 1 :]).strip()
    raise ProgramError(f"program.md line {len(lines)}: expected {FENCE}, the end of the front matter")


def read_fields(front: str) -> dict[str, Any]:
    """The value of every field, defaults filled in. Raises ProgramError for the first thing that is wrong."""
    try:
        table = tomllib.loads(front)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(str(error), front) from error
    given = dict(_flatten(table, front))
    return {name: _read(name, field, given, front) for name, field in FIELDS.items()}


def error_at(front: str, name: str, problem: str) -> ProgramError:
    """A ProgramError for the field ``name``, with the line on which it stands (or its table, or line 1)."""
    return ProgramError(f"program.md line {line_of(front, name)}: {name}: {problem}")


def line_of(front: str, name: str) -> int:
    """The line of program.md on which the key ``name`` is set; its table's, or 1, where it is not."""
    table, best, quoted = "", 1, False
    for number, line in enumerate(front.split("\n"), start=2):  # line 1 is the fence
        was_quoted, quoted = quoted, quoted ^ bool((line.count('"""') + line.count("'''")) % 2)
        if was_quoted:
            continue
        if header := re.match(r"\s*\[+\s*([^\]]*?)\s*\]", line):
            table = _plain(header[1])
            if name == table:
                return number
            if name.startswith(table + "."):
                best = number
        elif key := re.match(r"\s*([^=#]+?)\s*=", line):
            here = f"{table}.{_plain(key[1])}" if table else _plain(key[1])
            if here == name:
                return number
            if name.startswith(here + ".") or here.startswith(name + "."):
                best = number
    return best


def _plain(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def _syntax_error(message: str, front: str) -> ProgramError:
    match = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    line = int(match[1]) if match and match[1] else front.count("\n")
    where = f", column {match[2]}" if match and match[2] else ""
    problem = message[: match.start()] if match else message
    return ProgramError(f"program.md line {line + 1}{where}: not TOML: {problem}")


def _flatten(table: Mapping[str, Any], front: str) -> list[tuple[str, Any]]:
    """Dotted names and values of all keys. Raises ProgramError for one that we don't know."""
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        if key in TABLES and isinstance(value, Mapping):
            pairs += [(f"{key}.{below}", item) for below, item in value.items()]
        elif key in TABLES:
            raise error_at(front, key, f"expected a table [{key}], got {value!r}")
        else:
            pairs.append((key, value))
    for name, _ in pairs:
        if name not in FIELDS:
            raise error_at(front, name, _unknown(name))
    return pairs


def _unknown(name: str) -> str:
    table, _, last = name.rpartition(".")
    elsewhere = [known for known in FIELDS if known.rpartition(".")[2] == last]
    near = difflib.get_close_matches(name, [*FIELDS, *TABLES], 1, 0.6) or elsewhere[:1]
    here = sorted(known for known in FIELDS if known.rpartition(".")[0] == table)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(here) or ', '.join(sorted(TABLES))}"
    return f"unknown key; {hint}"


def _read(name: str, field: Field, given: Mapping[str, Any], front: str) -> Any:
    if name not in given:
        if field.default is ...:
            raise error_at(front, name, f"missing; expected {field.expected}")
        return field.default
    try:
        return field.read(given[name])
    except _Unfit as error:
        raise error_at(front, name, f"expected {field.expected}, got {_shown(given[name])}") from error


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
