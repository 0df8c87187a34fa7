"""Where a tunable may go, and when it matters."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from protocol.errors import UserError
from protocol.statements import MAX_METRIC, MAX_NAME_BYTES, Scalar

#: Whole numbers beyond this are not exact as floats, and no record carries them.
MAX_INT = 2**53


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


@dataclass(frozen=True, init=False)
class When:
    """Only where the tunable ``name`` has one of ``values``."""

    name: str
    values: tuple[Scalar, ...]

    def __init__(self, name: str, *values: Scalar) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "values", values)

    def holds(self, values: Mapping[str, Scalar]) -> bool:
        """Whether it is so where the tunables have ``values``; what is unknown is not."""
        return self.name in values and any(same(values[self.name], value) for value in self.values)


@dataclass(frozen=True)
class Tunable:
    """``value`` is what the asset has now, in ``domain`` and of its type; it does nothing unless ``when`` holds."""

    name: str
    value: Scalar
    domain: Domain
    when: When | None = None


def fit(domain: Domain, value: object) -> Scalar | None:
    """``value`` as ``domain`` has it (1 as 1.0 among floats), or None where it is outside."""
    if not is_scalar(value):
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


def fault(domain: Domain) -> str:
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


def is_scalar(value: object) -> TypeGuard[Scalar]:
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


def is_number(value: object) -> TypeGuard[int | float]:
    return is_scalar(value) and not isinstance(value, bool | str)
