"""How the asset declares where a tunable may go: ``RATE: Annotated[float, Log(1e-4, 1e-1)] = 3e-3``.

``Annotated[float, Log(1.0, 100.0), When("OPTIMIZER", "muon")]`` is one that only matters where another is so.

These are notes for whoever searches, read from the source text; at run time they do nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Int:
    """A whole number from ``low`` to ``high``, both included; with ``log``, its factor matters."""

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True)
class Uniform:
    """A number from ``low`` to ``high`` whose difference matters."""

    low: float
    high: float


@dataclass(frozen=True)
class Log:
    """A number from ``low`` to ``high`` whose factor matters."""

    low: float
    high: float


class Choice:
    """One of ``options``, in no order."""

    def __init__(self, *options: object) -> None:
        self.options = options


class When:
    """Only where the tunable ``name`` has one of ``values``."""

    def __init__(self, name: str, *values: object) -> None:
        self.name, self.values = name, values
