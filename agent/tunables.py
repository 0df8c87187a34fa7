"""What an asset says may be tuned, read from its text and written back into it; nothing is executed.

Python: ``NAME: Annotated[float, Log(1e-4, 1e-1)] = 3e-3`` at module level, the domain one of ``Log``,
``Uniform``, ``Int`` and ``Choice`` with literal arguments. JSON: an object's members of the form
``"x": {"value": 0.5, "low": 0.0, "high": 1.0, "log": false}`` or ``{"value": "a", "choices": ["a", "b"]}``;
there a domain is ``Int`` where value, low and high are all written as integers.

Assets come from strangers and from language models, so ``read_tunables`` takes anything; ``check_tunables``
says what it left out and why.
"""

import ast
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeGuard

from protocol.errors import UserError
from protocol.statements import MAX_METRIC, MAX_NAME_BYTES, MAX_TUNABLES, Scalar

#: Whole numbers beyond this are not exact as floats, and no record carries them.
MAX_INT = 2**53

DOMAINS = "Log, Uniform, Int or Choice"


class TunableError(UserError):
    """A declaration that can't be understood, or a value outside its domain."""


@dataclass(frozen=True)
class Log:
    """A number from ``low`` to ``high`` whose factor matters."""

    low: float
    high: float


@dataclass(frozen=True)
class Uniform:
    """A number from ``low`` to ``high`` whose difference matters."""

    low: float
    high: float


@dataclass(frozen=True)
class Int:
    """A whole number from ``low`` to ``high``, both included; with ``log``, its factor matters."""

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True, init=False)
class Choice:
    """One of ``options``, in no order."""

    options: tuple[Scalar, ...]

    def __init__(self, *options: Scalar) -> None:
        object.__setattr__(self, "options", options)


Domain = Log | Uniform | Int | Choice


@dataclass(frozen=True)
class Tunable:
    """``value`` is what the asset has now; it is in ``domain`` and of its type."""

    name: str
    value: Scalar
    domain: Domain


@dataclass(frozen=True)
class _Site:
    """A tunable, and where its value stands: bytes ``start`` to ``end`` of the asset."""

    tunable: Tunable
    start: int
    end: int


def read_tunables(asset: bytes, name: str) -> dict[str, Tunable]:
    """The tunables of the asset whose file name is ``name``, in its order, at most ``MAX_TUNABLES``.

    Empty where the asset can't be parsed; a declaration that can't be understood is left out.
    """
    try:
        sites = [site for site in _sites(asset, name) if isinstance(site, _Site)]
    except TunableError:
        return {}
    found = {site.tunable.name: site.tunable for site in sites}
    return dict(list(found.items())[:MAX_TUNABLES])


def check_tunables(asset: bytes, name: str) -> list[str]:
    """What is wrong with the asset's declarations, one line each; empty where all is well."""
    try:
        sites = list(_sites(asset, name))
    except TunableError as error:
        return [str(error)]
    complaints = [str(site) for site in sites if isinstance(site, TunableError)]
    names = {site.tunable.name for site in sites if isinstance(site, _Site)}
    if len(names) > MAX_TUNABLES:
        complaints.append(f"{name}: {len(names)} tunables; only the first {MAX_TUNABLES} are used")
    return complaints


def write_tunables(asset: bytes, name: str, values: Mapping[str, Scalar]) -> bytes:
    """``asset`` with ``values`` in place of the literals there; every other byte stays.

    A literal that has its value already stays as it is written. Raises ``TunableError`` for an asset
    that can't be parsed, a name that is no tunable and a value outside its domain.
    """
    sites = {site.tunable.name: site for site in _sites(asset, name) if isinstance(site, _Site)}
    literal = json.dumps if _kind(name) == ".json" else _python_literal
    edits: list[tuple[_Site, bytes]] = []
    for key, wanted in values.items():
        if key not in sites:
            raise TunableError(f"{name}: {key} is not a tunable of this asset")
        site = sites[key]
        value = fit(site.tunable.domain, wanted)
        if value is None:
            raise TunableError(f"{name}: {key}: {wanted!r} is outside {site.tunable.domain}")
        if not same(value, site.tunable.value):
            edits.append((site, literal(value).encode()))
    for site, text in sorted(edits, key=lambda edit: edit[0].start, reverse=True):
        asset = asset[: site.start] + text + asset[site.end :]
    return asset


def fit(domain: Domain, value: object) -> Scalar | None:
    """``value`` as ``domain`` has it (1 as 1.0 among floats), or None where it is outside."""
    if not _is_scalar(value):
        return None
    if isinstance(domain, Choice):
        return next((option for option in domain.options if same(option, value)), None)
    if isinstance(value, bool | str) or not domain.low <= value <= domain.high:
        return None
    if isinstance(domain, Int):
        return value if isinstance(value, int) else None
    return float(value)


def same(one: Scalar, other: Scalar) -> bool:
    """Equal and of one type: ``True`` is not ``1``."""
    return type(one) is type(other) and one == other


def _sites(asset: bytes, name: str) -> Iterator[_Site | TunableError]:
    """All declarations in order, those that can't be understood as errors; of one name the last holds."""
    try:
        text = asset.decode()
    except UnicodeDecodeError as error:
        raise TunableError(f"{name}: expected UTF-8 text, byte {error.start} is not") from None
    match _kind(name):
        case ".py":
            yield from _python_sites(text, name)
        case ".json":
            yield from _json_sites(text, name)


def _kind(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _site(where: str, name: str, value: object, domain: Domain, span: tuple[int, int]) -> _Site:
    """Raises ``TunableError`` where the domain is empty or does not hold the value."""
    if fault := _fault(domain):
        raise TunableError(f"{where}: {name}: {fault}")
    fitting = fit(domain, value)
    if fitting is None:
        raise TunableError(f"{where}: {name}: {value!r} is outside {domain}")
    return _Site(Tunable(name, fitting, domain), *span)


def _fault(domain: Domain) -> str:
    """What is wrong with a domain, "" for nothing."""
    if isinstance(domain, Choice):
        if not domain.options:
            return "a Choice needs an option"
        if len({type(option) for option in domain.options}) > 1:
            return "the options of a Choice are of one type"
        return "" if len(set(domain.options)) == len(domain.options) else "an option stands twice"
    bounds = (domain.low, domain.high)
    if any(isinstance(bound, bool | str) for bound in bounds) or not domain.low <= domain.high:
        return f"expected low <= high, got {domain.low!r} and {domain.high!r}"
    if isinstance(domain, Int):
        if not all(isinstance(bound, int) for bound in bounds) or not isinstance(domain.log, bool):
            return "the bounds of an Int are whole numbers and its log is True or False"
        return "log needs low >= 1" if domain.log and domain.low < 1 else ""
    return "Log needs low > 0" if isinstance(domain, Log) and domain.low <= 0 else ""


def _is_scalar(value: object) -> TypeGuard[Scalar]:
    """Whether a record can carry it."""
    match value:
        case bool():
            return True
        case int():
            return abs(value) <= MAX_INT
        case float():
            return math.isfinite(value) and abs(value) <= MAX_METRIC
        case str():
            return value.isprintable() and len(value.encode()) <= MAX_NAME_BYTES
    return False


def _is_number(value: object) -> TypeGuard[int | float]:
    return _is_scalar(value) and not isinstance(value, bool | str)


# Python


def _python_sites(text: str, name: str) -> Iterator[_Site | TunableError]:
    try:
        module = ast.parse(text)
    except SyntaxError as error:
        raise TunableError(f"{name} line {error.lineno or 1}: not valid Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):  # null bytes; nested too deep
        raise TunableError(f"{name}: not valid Python") from None
    starts = _line_starts(text)
    for node in module.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            domain = _annotated(node.annotation)
            if domain is not None and node.value is not None:
                yield _python_site(f"{name} line {node.lineno}", node.target.id, node.value, domain, starts)


def _line_starts(text: str) -> list[int]:
    """Byte offset of each line, lines as the parser counts them; it counts columns in UTF-8 bytes."""
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _annotated(annotation: ast.expr) -> ast.Call | None:
    """The domain in ``Annotated[type, domain]``; None for any other annotation."""
    match annotation:
        case ast.Subscript(value=outer, slice=ast.Tuple(elts=[_, *notes])) if _ends(outer) == "Annotated":
            calls = (note for note in notes if isinstance(note, ast.Call))
            return next((call for call in calls if _ends(call.func) in _PYTHON_DOMAINS), None)
    return None


def _ends(node: ast.expr) -> str:
    """The last name of a dotted one."""
    match node:
        case ast.Name(id=last) | ast.Attribute(attr=last):
            return last
    return ""


def _python_site(
    where: str, name: str, value: ast.expr, call: ast.Call, starts: list[int]
) -> _Site | TunableError:
    try:
        domain = _python_domain(where, name, call)
        begins = starts[value.lineno - 1] + value.col_offset
        ends = starts[(value.end_lineno or 1) - 1] + (value.end_col_offset or 0)
        return _site(where, name, _constant(where, name, value), domain, (begins, ends))
    except TunableError as error:
        return error


_PYTHON_DOMAINS: dict[str, type[Log] | type[Uniform] | type[Int] | type[Choice]] = {
    "Log": Log, "Uniform": Uniform, "Int": Int, "Choice": Choice,
}  # fmt: skip


def _python_domain(where: str, name: str, call: ast.Call) -> Domain:
    arguments = [_constant(where, name, argument) for argument in call.args]
    keywords = {word.arg or "**": _constant(where, name, word.value) for word in call.keywords}
    kind: Any = _PYTHON_DOMAINS[_ends(call.func)]
    try:
        domain: Domain = kind(*arguments, **keywords)
    except TypeError:
        raise TunableError(f"{where}: {name}: expected {DOMAINS} with its bounds or options") from None
    return domain


def _constant(where: str, name: str, node: ast.expr) -> Scalar:
    match node:
        case ast.Constant(value=value) if _is_scalar(value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if _is_number(value):
            return -value
    raise TunableError(f"{where}: {name}: expected a number, a short text, True or False, written out")


def _python_literal(value: Scalar) -> str:
    if isinstance(value, str) and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return repr(value)


# JSON


def _json_sites(text: str, name: str) -> Iterator[_Site | TunableError]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        raise TunableError(f"{name}: not valid JSON") from None
    if not isinstance(whole, dict):
        raise TunableError(f"{name}: expected a JSON object")
    for key, entry, begins, _ in _members(text, 0):
        if isinstance(entry, dict) and "value" in entry and entry.keys() & {"low", "high", "choices"}:
            line = text.count("\n", 0, begins) + 1
            yield _json_site(text, f"{name} line {line}", key, entry, begins)


def _members(text: str, at: int) -> Iterator[tuple[str, Any, int, int]]:
    """(key, value, start, end) of the members of the object at ``at``, in text that is valid JSON.

    The standard decoder tells where a value ends but not where it began, so this walks one object with it.
    """
    decode = json.JSONDecoder().raw_decode
    at = _next(text, _next(text, at) + 1)
    while text[at] != "}":
        key, colon = decode(text, at)
        begins = _next(text, _next(text, colon) + 1)
        value, ends = decode(text, begins)
        yield key, value, begins, ends
        at = _next(text, ends)
        if text[at] == ",":
            at = _next(text, at + 1)


def _next(text: str, at: int) -> int:
    """Where the token at or after ``at`` begins."""
    while text[at] in " \t\r\n":
        at += 1
    return at


def _json_site(text: str, where: str, name: str, entry: dict[str, Any], at: int) -> _Site | TunableError:
    spans = {key: (begins, ends) for key, _, begins, ends in _members(text, at)}
    begins, ends = (len(text[:place].encode()) for place in spans["value"])
    try:
        if not _is_scalar(name):
            raise TunableError(f"{where}: expected a short printable name")
        return _site(where, name, entry["value"], _json_domain(where, name, entry), (begins, ends))
    except TunableError as error:
        return error


def _json_domain(where: str, name: str, entry: dict[str, Any]) -> Domain:
    choices = entry.get("choices")
    if isinstance(choices, list) and all(_is_scalar(option) for option in choices):
        return Choice(*choices)
    low, high, log = entry.get("low"), entry.get("high"), entry.get("log", False)
    if not _is_number(low) or not _is_number(high) or not isinstance(log, bool):
        raise TunableError(f"{where}: {name}: expected low, high and perhaps log, or a list of choices")
    if isinstance(low, int) and isinstance(high, int) and type(entry["value"]) is int:
        return Int(low, high, log)
    return Log(low, high) if log else Uniform(low, high)
