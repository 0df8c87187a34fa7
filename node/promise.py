"""What the metric of a run must beat to be worth a thorough examination: the rule for promising, foretold."""

import math

from node.journal import Flight
from protocol.ledger import Ledger
from protocol.statements import FIRST_RUNS


def bar(ledger: Ledger, tier: str, flight: Flight, lines: int) -> float:
    """The metric that a new edit, which adds ``lines`` net lines to its parent, must beat to be promising.

    Runs that decide, and edits of what has no value here yet, beat it always.
    """
    parent = ledger.standing(flight.parent, tier) if flight.parent is not None else None
    if flight.origin not in FIRST_RUNS or parent is None:
        return ledger.to_metric(math.inf)
    base = parent if parent.accepted else ledger.standing(parent.base, tier)
    if base is None or base.value is None:
        return ledger.to_metric(math.inf)
    since = 0 if parent.accepted else parent.lines
    return ledger.to_metric(base.value - ledger.rules.simplicity * (since + lines))
