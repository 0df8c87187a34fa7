"""How an asset declares its tunables, found in its text; nothing is executed.

Python: ``NAME: Annotated[float, Log(1e-4, 1e-1)] = 3e-3`` at module level, the domain one of ``Log``,
``Uniform``, ``Int`` and ``Choice`` with literal arguments, and perhaps ``When("OTHER", "value", ...)`` behind it.
JSON: an object's members of the form ``"x": {"value": 0.5, "low": 0.0, "high": 1.0, "log": false}`` or
``{"value": "a", "choices": ["a", "b"]}``, perhaps with ``"when": {"other": ["value"]}``; there a domain is ``Int``
where value, low and high are all written as integers.
"""

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from agent.domains import (
    Choice,
    Domain,
    Int,
    Log,
    Tunable,
    TunableError,
    Uniform,
    When,
    fault,
    fit,
    is_number,
    is_scalar,
)
from protocol.statements import Scalar

DOMAINS = "Log, Uniform, Int or Choice"


@dataclass(frozen=True)
class Site:
    """A tunable, and where its value stands: bytes ``start`` to ``end`` of the asset; ``where`` is for people."""

    where: str
    tunable: Tunable
    start: int
    end: int


def declared(asset: bytes, name: str) -> list[Site | TunableError]:
    """All declarations in order, those that can't be understood as errors; of one name the last holds.

    Raises ``TunableError`` for an asset that can't be parsed.
    """
    sites = list(_sites(asset, name))
    tunables = {site.tunable.name: site.tunable for site in sites if isinstance(site, Site)}
    return [site if isinstance(site, TunableError) else _conditioned(site, tunables) for site in sites]


def _conditioned(site: Site, tunables: Mapping[str, Tunable]) -> Site | TunableError:
    """The site, unless it waits for what can't be."""
    when = site.tunable.when
    if when is None:
        return site
    other = tunables.get(when.name)
    if other is None or when.name == site.tunable.name:
        return TunableError(f"{site.where}: {site.tunable.name}: When names {when.name!r}, which is no other tunable")
    odd = [value for value in when.values if fit(other.domain, value) is None]
    return TunableError(f"{site.where}: {site.tunable.name}: {when.name} is never {odd[0]!r}") if odd else site


def _sites(asset: bytes, name: str) -> Iterator[Site | TunableError]:
    try:
        text = asset.decode()
    except UnicodeDecodeError as error:
        raise TunableError(f"{name}: expected UTF-8 text, byte {error.start} is not") from None
    match kind(name):
        case ".py":
            yield from _python_sites(text, name)
        case ".json":
            yield from _json_sites(text, name)


def kind(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _site(
    where: str, name: str, value: object, domain: Domain, when: When | None, span: tuple[int, int]
) -> Site:
    """Raises ``TunableError`` where the domain is empty or does not hold the value."""
    if wrong := fault(domain):
        raise TunableError(f"{where}: {name}: {wrong}")
    fitting = fit(domain, value)
    if fitting is None:
        raise TunableError(f"{where}: {name}: {value!r} is outside {domain}")
    return Site(where, Tunable(name, fitting, domain, when), *span)


# Python


def _python_sites(text: str, name: str) -> Iterator[Site | TunableError]:
    try:
        module = ast.parse(text)
    except SyntaxError as error:
        raise TunableError(f"{name} line {error.lineno or 1}: not valid Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):  # null bytes; nested too deep
        raise TunableError(f"{name}: not valid Python") from None
    starts = _line_starts(text)
    for node in module.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            notes = _annotated(node.annotation)
            if notes.keys() & _PYTHON_DOMAINS and node.value is not None:
                yield _python_site(f"{name} line {node.lineno}", node.target.id, node.value, notes, starts)


def _line_starts(text: str) -> list[int]:
    """Byte offset of each line, lines as the parser counts them; it counts columns in UTF-8 bytes."""
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _annotated(annotation: ast.expr) -> dict[str, ast.Call]:
    """The calls in ``Annotated[type, call, ...]`` by what is called, the first of each; else nothing."""
    match annotation:
        case ast.Subscript(value=outer, slice=ast.Tuple(elts=[_, *notes])) if _ends(outer) == "Annotated":
            return {_ends(note.func): note for note in reversed(notes) if isinstance(note, ast.Call)}
    return {}


def _ends(node: ast.expr) -> str:
    """The last name of a dotted one."""
    match node:
        case ast.Name(id=last) | ast.Attribute(attr=last):
            return last
    return ""


def _python_site(
    where: str, name: str, value: ast.expr, notes: Mapping[str, ast.Call], starts: list[int]
) -> Site | TunableError:
    try:
        domain = _python_domain(where, name, notes)
        when = _python_when(where, name, notes["When"]) if "When" in notes else None
        begins = starts[value.lineno - 1] + value.col_offset
        ends = starts[(value.end_lineno or 1) - 1] + (value.end_col_offset or 0)
        return _site(where, name, _constant(where, name, value), domain, when, (begins, ends))
    except TunableError as error:
        return error


_PYTHON_DOMAINS: dict[str, type[Log] | type[Uniform] | type[Int] | type[Choice]] = {
    "Log": Log, "Uniform": Uniform, "Int": Int, "Choice": Choice,
}  # fmt: skip


def _python_domain(where: str, name: str, notes: Mapping[str, ast.Call]) -> Domain:
    which = next(note for note in _PYTHON_DOMAINS if note in notes)
    arguments = [_constant(where, name, argument) for argument in notes[which].args]
    keywords = {word.arg or "**": _constant(where, name, word.value) for word in notes[which].keywords}
    make: Any = _PYTHON_DOMAINS[which]
    try:
        domain: Domain = make(*arguments, **keywords)
    except TypeError:
        raise TunableError(f"{where}: {name}: expected {DOMAINS} with its bounds or options") from None
    return domain


def _python_when(where: str, name: str, call: ast.Call) -> When:
    match [_constant(where, name, argument) for argument in call.args]:
        case [str(other), *values] if values and not call.keywords:
            return When(other, *values)
    raise TunableError(f'{where}: {name}: expected When("OTHER", value, ...)')


def _constant(where: str, name: str, node: ast.expr) -> Scalar:
    match node:
        case ast.Constant(value=value) if is_scalar(value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if is_number(value):
            return -value
    raise TunableError(f"{where}: {name}: expected a number, a short text, True or False, written out")


def python_literal(value: Scalar) -> str:
    if isinstance(value, str) and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return repr(value)


# JSON


def _json_sites(text: str, name: str) -> Iterator[Site | TunableError]:
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


def _json_site(text: str, where: str, name: str, entry: dict[str, Any], at: int) -> Site | TunableError:
    spans = {key: (begins, ends) for key, _, begins, ends in _members(text, at)}
    begins, ends = (len(text[:place].encode()) for place in spans["value"])
    try:
        if not is_scalar(name):
            raise TunableError(f"{where}: expected a short printable name")
        domain, when = _json_domain(where, name, entry), _json_when(where, name, entry.get("when"))
        return _site(where, name, entry["value"], domain, when, (begins, ends))
    except TunableError as error:
        return error


def _json_when(where: str, name: str, condition: object) -> When | None:
    match condition:
        case None:
            return None
        case dict() if len(condition) == 1:
            other, values = next(iter(condition.items()))
            if isinstance(values, list) and values and all(is_scalar(value) for value in values):
                return When(other, *values)
    raise TunableError(f'{where}: {name}: expected "when": {{"other": [value, ...]}}')


def _json_domain(where: str, name: str, entry: dict[str, Any]) -> Domain:
    choices = entry.get("choices")
    if isinstance(choices, list) and all(is_scalar(option) for option in choices):
        return Choice(*choices)
    low, high, log = entry.get("low"), entry.get("high"), entry.get("log", False)
    if not is_number(low) or not is_number(high) or not isinstance(log, bool):
        raise TunableError(f"{where}: {name}: expected low, high and perhaps log, or a list of choices")
    if isinstance(low, int) and isinstance(high, int) and type(entry["value"]) is int:
        return Int(low, high, log)
    return Log(low, high) if log else Uniform(low, high)
