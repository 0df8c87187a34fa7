"""The progress curve of a run: (fraction of the budget, training loss), and when a run is hopeless."""

from collections.abc import Sequence

#: As many as a result carries.
POINTS = 64
#: From here on a run may be judged by its curve: with this margin no winner of 20 recorded runs was lost, and
#: 16 to 30 % of the time was saved.
EARLY_FRACTION = 0.5
EARLY_MARGIN = 0.1
#: Training loss is noisy from batch to batch: compared is the mean over this much of the budget.
EARLY_WINDOW = 0.06

Curve = Sequence[tuple[float, float]]


def thin(points: Curve) -> tuple[tuple[float, float], ...]:
    """At most POINTS points: the last one in each equal part of the budget."""
    kept: dict[int, tuple[float, float]] = {}
    for fraction, loss in points:
        kept[min(int(fraction * POINTS), POINTS - 1)] = (fraction, loss)
    return tuple(kept[part] for part in sorted(kept))


def is_behind(points: Curve, incumbent: Curve) -> bool:
    """Whether the run is past half of its budget and clearly worse than the incumbent was there."""
    if not points or points[-1][0] < EARLY_FRACTION:
        return False
    at = points[-1][0]
    mine, its = mean_before(points, at), mean_before(incumbent, at)
    return mine is not None and its is not None and mine > its + EARLY_MARGIN


def mean_before(points: Curve, at: float) -> float | None:
    """The mean loss in the window that ends at fraction ``at``; None where there is no point in it."""
    window = [loss for fraction, loss in points if at - EARLY_WINDOW < fraction <= at]
    return sum(window) / len(window) if window else None
