"""A space of tunables: draw a point, step from one, tell two apart, say what changed.

A point is a value for each tunable. Numbers are moved about in unit coordinates: 0 is a domain's low end, 1
its high end, and where a domain is logarithmic the coordinate is that of the logarithm. A tunable that does
nothing at a point, since its ``When`` does not hold there, has the base's value: points that train alike are equal,
and a model of the loss learns nothing from what had no effect (as in SMAC: Hutter, Hoos, Leyton-Brown 2011).
"""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence

from agent.domains import Choice, Domain, Int, Log, Tunable, Uniform, When, fit, same
from agent.proposer import MAX_SUMMARY
from protocol.statements import Scalar
from protocol.text import one_line

Point = dict[str, Scalar]
Key = tuple[tuple[str, str], ...]

#: Drawn numbers are rounded to so many digits: no search tells more apart, and people read them.
DIGITS = 3


class Space:
    """The space of an asset's tunables; ``base`` is the point that the asset is at."""

    def __init__(self, tunables: Mapping[str, Tunable]) -> None:
        self.domains = {
            name: tunable.domain for name, tunable in tunables.items() if size(tunable.domain) > 1
        }
        self.base: Point = {name: tunables[name].value for name in self.domains}
        self._values = {name: tunable.value for name, tunable in tunables.items()}
        self._whens: dict[str, When] = {
            name: when for name in self.domains if (when := tunables[name].when) is not None
        }

    @property
    def size(self) -> float:
        """How many points there are; infinity where a domain is continuous."""
        return math.prod(size(domain) for domain in self.domains.values())

    def place(self, values: Mapping[str, Scalar]) -> Point | None:
        """Another asset's values as a point here; None if that can't be.

        A name that it lacks has the base's value, since that is what an edit that makes something tunable
        usually keeps; names that are not here are left out.
        """
        point: Point = {}
        for name, domain in self.domains.items():
            value = fit(domain, values.get(name, self.base[name]))
            if value is None:
                return None
            point[name] = value
        return self.settle(point) if any(name in values for name in self.domains) else None

    def settle(self, point: Mapping[str, Scalar]) -> Point:
        """``point`` with the base's value for what does nothing there."""
        values = {**self._values, **point}
        return {
            name: value if name not in self._whens or self._whens[name].holds(values) else self.base[name]
            for name, value in point.items()
        }

    def draw(self, rng: random.Random) -> Point:
        """Uniform over the space."""
        return self.settle({name: draw(domain, rng) for name, domain in self.domains.items()})

    def step(
        self, point: Mapping[str, Scalar], names: Sequence[str], spread: float, rng: random.Random
    ) -> Point:
        """``point`` with each of ``names`` moved, numbers by about ``spread`` in unit coordinates."""
        moved = {name: step(self.domains[name], point[name], spread, rng) for name in names}
        return self.settle({**point, **moved})

    def tidy(self, point: Mapping[str, Scalar]) -> Point:
        """``point`` with its numbers rounded as drawn ones are."""
        return self.settle({name: tidy(domain, point[name]) for name, domain in self.domains.items()})

    def points(self) -> Iterator[Point]:
        """All points of a space of finite size."""
        names = list(self.domains)
        for values in itertools.product(*(everything(domain) for domain in self.domains.values())):
            yield dict(zip(names, values, strict=True))


def key(point: Mapping[str, Scalar]) -> Key:
    """The same for equal points only."""
    return tuple(sorted((name, repr(value)) for name, value in point.items()))


def changes(old: Mapping[str, Scalar], new: Mapping[str, Scalar]) -> list[str]:
    """Names of what differs."""
    return [name for name in new if not same(old[name], new[name])]


def describe(old: Mapping[str, Scalar], new: Mapping[str, Scalar]) -> str:
    """For people: "learning_rate 0.001 -> 0.0031, depth 2 -> 3"."""
    moved = changes(old, new)
    return one_line(", ".join(f"{name.lower()} {told(old[name])} -> {told(new[name])}" for name in moved), MAX_SUMMARY)


def told(value: Scalar) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def size(domain: Domain) -> float:
    """How many values there are in a domain."""
    if isinstance(domain, Choice):
        return len(domain.options)
    if isinstance(domain, Int):
        return domain.high - domain.low + 1
    return math.inf if domain.low < domain.high else 1


def everything(domain: Domain) -> Sequence[Scalar]:
    """All values of a finite domain, or the one value of a continuous one without width."""
    if isinstance(domain, Choice):
        return domain.options
    return range(domain.low, domain.high + 1) if isinstance(domain, Int) else [domain.low]


def draw(domain: Domain, rng: random.Random) -> Scalar:
    """Uniform over a domain."""
    if isinstance(domain, Choice):
        return rng.choice(domain.options)
    return at(domain, rng.random())


def step(domain: Domain, value: Scalar, spread: float, rng: random.Random) -> Scalar:
    """Another value: another option, or a number moved by a normal draw, reflected at the ends.

    A whole number moves by one at least.
    """
    if isinstance(domain, Choice):
        return rng.choice([option for option in domain.options if not same(option, value)])
    goal = reflect(unit(domain, value) + rng.gauss(0.0, spread))
    moved = at(domain, goal)
    if isinstance(domain, Int) and moved == value:
        up = value == domain.low or (value != domain.high and goal > unit(domain, value))
        return int(value) + (1 if up else -1)
    return moved


def tidy(domain: Domain, value: Scalar) -> Scalar:
    """A number rounded as ``at`` rounds; whole numbers and options as they are."""
    if isinstance(domain, Choice | Int):
        return value
    return at(domain, unit(domain, value))


def unit(domain: Log | Uniform | Int, value: Scalar) -> float:
    """The unit coordinate of a number; a whole one stands in the middle of its share."""
    assert not isinstance(value, str)
    low, high = ends(domain)
    if logarithmic(domain):
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low) if high > low else 0.0


def at(domain: Log | Uniform | Int, coordinate: float) -> float | int:
    """The number at a unit coordinate, rounded."""
    low, high = ends(domain)
    number = low * (high / low) ** coordinate if logarithmic(domain) else low + (high - low) * coordinate
    if isinstance(domain, Int):
        return min(max(round(number), domain.low), domain.high)
    return min(max(float(f"{number:.{DIGITS}g}"), float(domain.low)), float(domain.high))


def ends(domain: Log | Uniform | Int) -> tuple[float, float]:
    """Where coordinates 0 and 1 are: each whole number has the share of the line that is nearest to it."""
    if isinstance(domain, Int):
        return domain.low - 0.5, domain.high + 0.5
    return domain.low, domain.high


def logarithmic(domain: Log | Uniform | Int) -> bool:
    return isinstance(domain, Log) or (isinstance(domain, Int) and domain.log)


def reflect(coordinate: float) -> float:
    """Back into 0 to 1, as from a mirror."""
    folded = abs(coordinate) % 2.0
    return 2.0 - folded if folded > 1.0 else folded
