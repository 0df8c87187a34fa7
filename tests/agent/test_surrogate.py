"""The model of the loss finds main effects through noise, and is open about where nobody has been."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.domains import Choice, Tunable, Uniform
from agent.evidence import evidence
from agent.proposer import Context, Trial
from agent.space import Point, Space
from agent.surrogate import Surrogate, squash
from protocol.statements import Status

SPACE = Space(
    {f"x{place}": Tunable(f"x{place}", 0.5, Uniform(0.0, 1.0)) for place in range(6)}
    | {"mode": Tunable("mode", "p", Choice("p", "q"))}
)


def loss(point: Point) -> float:
    return (float(point["x0"]) - 0.8) ** 2 + 0.2 * (point["mode"] == "q")


def fitted(count: int) -> Surrogate:
    rng = random.Random(3)
    points = [SPACE.draw(rng) for _ in range(count)]
    return Surrogate(SPACE, points, [loss(point) + rng.gauss(0.0, 0.02) for point in points], loss(SPACE.base))


def mean(surrogate: Surrogate, point: Point) -> float:
    return float(surrogate.draw([point] * 400, 0).mean())


def spread(surrogate: Surrogate, point: Point) -> float:
    return float(surrogate.draw([point] * 400, 0).std())


def test_it_finds_main_effects() -> None:
    model = fitted(60)
    assert mean(model, {**SPACE.base, "x0": 0.8}) < mean(model, SPACE.base) < mean(model, {**SPACE.base, "x0": 0.1})
    assert mean(model, SPACE.base) < mean(model, {**SPACE.base, "mode": "q"})


def test_it_is_surer_with_more_trials() -> None:
    assert spread(fitted(60), SPACE.base) < spread(fitted(6), SPACE.base)


def test_equal_losses_and_repeated_points_are_no_harm() -> None:
    model = Surrogate(SPACE, [SPACE.base] * 5, [1.0] * 5, 1.0)
    assert np.isfinite(model.draw([SPACE.base, {**SPACE.base, "mode": "q"}], 1)).all()


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20), st.floats(-1e9, 1e9))
def test_squashing_keeps_the_order(losses: list[float], level: float) -> None:
    array = np.array(losses)
    squashed = squash(array, level)
    assert np.isfinite(squashed).all()
    assert (np.diff(squashed[array.argsort(kind="stable")]) >= 0).all()


def test_few_losses_have_a_scale() -> None:
    for count in range(2, 8):
        squashed = squash(np.arange(float(count)), 0.0)
        assert np.isfinite(squashed).all()
        assert np.ptp(squashed) < 3.0


@pytest.mark.parametrize(
    "absurd", [(), (1e6,), (1e100,), (-1e100,), (1e100, -1e100), (None, None, 1e100, -1e100)], ids=str
)
def test_absurd_losses_among_honest_ones_do_little_harm(absurd: Sequence[float | None]) -> None:
    """Any number is a legal metric, and none may make the search a random one."""
    rng = random.Random(3)
    points = [SPACE.draw(rng) for _ in range(60 + len(absurd))]
    losses = [*(loss(point) + rng.gauss(0.0, 0.02) for point in points[:60]), *absurd]
    known = [
        Trial(str(place), point, value, Status.CRASHED if value is None else Status.SCORED, "cpu")
        for place, (point, value) in enumerate(zip(points, losses, strict=True))
    ]
    seen = evidence(SPACE, Context("", "a.json", "0", b"", "cpu", known, (), lambda asset: False, 1), [])
    model = Surrogate(SPACE, seen.points, seen.losses, seen.level)
    others = [SPACE.draw(rng) for _ in range(300)]
    drawn, true = ranks(model.draw(others, 0)), ranks([loss(point) for point in others])
    assert np.corrcoef(drawn, true)[0, 1] > 0.8


def ranks(values: Sequence[float]) -> NDArray[np.intp]:
    return np.argsort(np.argsort(values))
