"""How far two honest runs of one candidate differ: the noise of a tier (DESIGN section 5, rule 1).

Pooled from authors' own repeated runs of the same candidate, those apart that nominated it, which were
selected for luck:

    σ² = (4 σ₀² + Σ w·m) / (4 + Σ w)    over authors; m = SS / df of that author, w = min(df, NOISE_DF_CAP)

that is, σ₀ of program.md counts like four degrees of freedom (a scaled inverse chi-squared prior). Spread
between authors is left out: it would let one liar widen σ at will. Sums are exact, so any order of arrival
gives equal bits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: σ₀ weighs as much as this many degrees of freedom.
PRIOR_DF = 4
#: One author's repeats count for no more than this: enough to know σ to 12 %, too few to outvote a swarm.
NOISE_DF_CAP = 30
#: A liar's spread counts as at most this many σ₀, and so σ stays below 4 σ₀ whatever is claimed.
MAX_SPREAD = 4.0
#: The yardstick has 16 steps an octave (3-6 % apart).
_GRID = 32
#: 2^-1074 is the smallest float: every float is a whole number of these.
_UNIT_BITS = 1074


class ExactSum:
    """A sum of floats without rounding, from which terms can be taken back."""

    __slots__ = ("_units",)

    def __init__(self) -> None:
        self._units = 0

    def add(self, value: float) -> None:
        self._units += _units(value)

    def subtract(self, value: float) -> None:
        self._units -= _units(value)

    @property
    def value(self) -> float:
        return self._units / (1 << _UNIT_BITS)


def _units(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator << (_UNIT_BITS + 1 - denominator.bit_length())


@dataclass(frozen=True, slots=True)
class Spread:
    """Sum of squares about the mean, and its degrees of freedom."""

    squares: float = 0.0
    degrees: int = 0


NO_SPREAD = Spread()


def spread(losses: Sequence[float]) -> Spread:
    """The spread of one author's runs of one candidate."""
    if len(losses) < 2:
        return NO_SPREAD
    mean = math.fsum(losses) / len(losses)
    return Spread(math.fsum((loss - mean) ** 2 for loss in losses), len(losses) - 1)


class _Share:
    """What one author knows about the noise."""

    __slots__ = ("degrees", "squares")

    def __init__(self) -> None:
        self.squares = ExactSum()
        self.degrees = 0

    def weighted(self, ceiling: float) -> tuple[float, int]:
        """(w·m, w), with m at most ``ceiling``."""
        if not self.degrees:
            return 0.0, 0
        weight = min(self.degrees, NOISE_DF_CAP)
        return weight * min(self.squares.value / self.degrees, ceiling), weight


class Noise:
    """σ of one tier, from spreads that come, change and go."""

    def __init__(self, sigma0: float) -> None:
        self._sigma0 = sigma0
        self._ceiling = (MAX_SPREAD * sigma0) ** 2
        self._shares: dict[bytes, _Share] = {}
        self._total = ExactSum()
        self._weight = 0

    def replace(self, author: bytes, old: Spread, new: Spread) -> None:
        """The author's spread on one candidate was ``old`` and is ``new``."""
        if old == new:
            return
        share = self._shares.setdefault(author, _Share())
        mean, weight = share.weighted(self._ceiling)
        self._total.subtract(mean)
        self._weight -= weight
        share.squares.subtract(old.squares)
        share.squares.add(new.squares)
        share.degrees += new.degrees - old.degrees
        mean, weight = share.weighted(self._ceiling)
        self._total.add(mean)
        self._weight += weight

    @property
    def sigma(self) -> float:
        prior = PRIOR_DF * self._sigma0**2
        return math.sqrt((prior + self._total.value) / (PRIOR_DF + self._weight))


def yardstick(sigma: float) -> float:
    """``sigma`` rounded up to a coarse grid.

    Decisions compare with this, so that they do not flicker with every record, and so that a ledger need only
    look again at its candidates when σ takes a step. Binary fractions, hence the same on every machine.
    """
    mantissa, exponent = math.frexp(sigma)
    return math.ldexp(math.ceil(mantissa * _GRID) / _GRID, exponent)
