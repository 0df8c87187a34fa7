"""Curves are thinned, and hopeless runs are told from those that may still win."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.curve import EARLY_FRACTION, POINTS, Curve, is_behind, mean_before, thin

STEPS = [step / 100 for step in range(101)]
TABLE = Path(__file__).parents[1] / "bench" / "data" / "lm_mini_runs.jsonl"


def along(loss: Callable[[float], float]) -> list[tuple[float, float]]:
    return [(at, loss(at)) for at in STEPS]


#: Falls by 4, as a small language model's does.
INCUMBENT = along(lambda at: 8 - 4 * at**0.5)


def test_a_curve_is_thinned_to_the_last_point_of_each_part() -> None:
    thinned = thin([(i / 1000, float(i)) for i in range(1001)])
    assert len(thinned) == POINTS
    assert thinned[-1] == (1.0, 1000.0)
    assert thin([]) == ()


def test_the_mean_is_over_a_window() -> None:
    assert mean_before(along(lambda at: at), 0.5) == pytest.approx(0.475, abs=0.005)
    assert mean_before([], 0.5) is None


def test_a_run_clearly_above_is_behind_and_its_like_is_not() -> None:
    above = along(lambda at: 8 - 4 * at**0.5 + 2)
    assert is_behind(above, INCUMBENT)
    assert not is_behind(INCUMBENT, INCUMBENT)
    assert not is_behind(along(lambda at: 8 - 4 * at**0.5 - 2), INCUMBENT)


def test_the_margin_narrows() -> None:
    above = along(lambda at: 8 - 4 * at**0.5 + 0.7)
    stops = [len(above[:count]) for count in range(1, 102) if is_behind(above[:count], INCUMBENT)]
    assert stops
    assert min(stops) > 30
    assert stops == list(range(min(stops), 102))


def test_nothing_is_said_too_soon_or_without_an_incumbent() -> None:
    above = along(lambda at: 100.0)
    early = [point for point in above if point[0] < EARLY_FRACTION]
    assert not is_behind(early, INCUMBENT)
    assert not is_behind(above, [])
    assert not is_behind([], INCUMBENT)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_unit_of_the_loss_does_not_matter(scale: float) -> None:
    incumbent = [(at, loss * scale) for at, loss in INCUMBENT]
    assert is_behind([(at, (loss + 2) * scale) for at, loss in INCUMBENT], incumbent)
    assert not is_behind([(at, (loss + 0.1) * scale) for at, loss in INCUMBENT], incumbent)


def test_an_incumbent_whose_loss_does_not_fall_judges_nobody() -> None:
    flat = along(lambda at: 2.0)
    assert not is_behind(along(lambda at: 9.0), flat)


def test_hardly_a_recorded_run_is_behind_one_that_is_clearly_worse() -> None:
    """Of real runs: against genesis, one in fifty that end better by two standard deviations is stopped, at most."""
    rows = [json.loads(line) for line in TABLE.read_text().splitlines()[1:]]
    genesis = next(row for row in rows if row["kind"] == "genesis")
    better = [row for row in rows if row["metric"] is not None and row["metric"] < genesis["metric"] - 0.037]
    assert len(better) > 100
    stopped = [row for row in better if ever_behind(row["curve"], genesis["curve"])]
    assert len(stopped) <= len(better) / 50
    worse = [row for row in rows if row["metric"] is not None and row["metric"] > genesis["metric"] + 0.5]
    assert sum(ever_behind(row["curve"], genesis["curve"]) for row in worse) > 0.9 * len(worse)


def ever_behind(curve: Curve, incumbent: Curve) -> bool:
    return any(is_behind(curve[:count], incumbent) for count in range(1, len(curve)))
