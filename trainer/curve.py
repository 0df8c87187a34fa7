"""The progress curve of a run: (fraction of the budget, training loss), and when a run is hopeless.

A run is stopped where its loss lies above the incumbent's at the same fraction by more than a margin, which is
wide at first and narrows: curves that begin apart may still meet. Losses have no unit that all programs share, so
the margin is a share of how far the incumbent's own loss had fallen at its end. The figures are a little
wider than what saves most of recorded runs (tests/bench/early_stopping.py: chosen on half, tried on the other).
"""

from collections.abc import Sequence

#: As many as a result carries.
POINTS = 64
#: A run may be stopped from here on.
EARLY_FRACTION = 0.15
#: The margin at the end of the budget, and what comes on top at its beginning; shares of the incumbent's fall.
EARLY_MARGIN, EARLY_SLACK = 0.12, 0.3
#: Training loss is noisy from batch to batch: compared is the mean over this much of the budget.
EARLY_WINDOW = 0.06

Curve = Sequence[tuple[float, float]]


def thin(points: Curve) -> tuple[tuple[float, float], ...]:
    """At most POINTS points: the last one in each equal part of the budget."""
    kept: dict[int, tuple[float, float]] = {}
    for fraction, loss in points:
        kept[min(int(fraction * POINTS), POINTS - 1)] = (fraction, loss)
    return tuple(kept[part] for part in sorted(kept))


def is_behind(points: Curve, incumbent: Curve, margin: float = EARLY_MARGIN, slack: float = EARLY_SLACK) -> bool:
    """Whether the run, of which ``points`` are known so far, is clearly worse than the incumbent was there."""
    if not points or not incumbent or points[-1][0] < EARLY_FRACTION:
        return False
    at = points[-1][0]
    mine, its = mean_before(points, at), mean_before(incumbent, at)
    fall = incumbent[0][1] - incumbent[-1][1]
    if mine is None or its is None or fall <= 0:
        return False
    return mine > its + fall * (margin + slack * (1 - at) ** 2)


def mean_before(points: Curve, at: float) -> float | None:
    """The mean loss in the window that ends at fraction ``at``; None where there is no point in it."""
    window = [loss for fraction, loss in points if at - EARLY_WINDOW < fraction <= at]
    return sum(window) / len(window) if window else None
