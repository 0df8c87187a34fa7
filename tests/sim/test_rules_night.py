"""The goals of DESIGN section 5, with the real rules and choices on known true effects. Seeded: the same
every time.

Bounds are the goals themselves; the number of nights is chosen so that the measured margin is several
standard errors. ``python -m tests.sim.rules_night`` prints the whole table.
"""

import math

import pytest

from protocol import trust
from tests.sim.rules_night import Night, Summary, compare, naive_night, summarise

#: In σ, of the accepted best's claim: the naive rule overstates by 2 σ at the same scale.
OVERSTATEMENT = 1.0


def test_where_gains_are_half_the_noise_true_progress_is_twice_the_naive_rules() -> None:
    naive, ours = compare(0.5, nights=20)
    assert ours.true >= 1.9 * naive.true
    assert ours.proven >= 0.8 * ours.true
    assert ours.claimed - ours.true < OVERSTATEMENT < naive.claimed - naive.true


@pytest.mark.slow
def test_where_gains_are_large_the_care_costs_little() -> None:
    naive, ours = compare(6.0, nights=60)
    assert ours.true >= 0.85 * naive.true
    assert ours.proven >= 0.8 * ours.true


@pytest.mark.parametrize("noise", [1.0, 0.5])
def test_where_nothing_works_nothing_is_proven(noise: float) -> None:
    """A/A nights; also where program.md states half the true noise."""
    nights = [Night(0.0, seed, noise=noise).run() for seed in range(10)]
    assert not any(night.steps_proven for night in nights)


def test_the_naive_rule_makes_of_the_model_what_the_design_says() -> None:
    """6.6, 36, 113 and 427 σ: that is how the model's proposals were chosen."""
    for scale, true in ((0.5, 6.6), (1.0, 35.6), (2.0, 112.7), (6.0, 427.0)):
        naive = summarise([naive_night(scale, seed) for seed in range(60)])
        assert naive.true == pytest.approx(true, rel=0.15)


def lied_to(scale: float, nights: int) -> tuple[Summary, Summary]:
    clean = summarise([Night(scale, seed, nodes=10).run() for seed in range(nights)])
    return clean, summarise([Night(scale, seed, nodes=10, liars=1).run() for seed in range(nights)])


def test_one_liar_in_ten_neither_leads_astray_nor_stops_the_swarm() -> None:
    clean, lied = lied_to(1.0, nights=5)
    assert abs(lied.claimed - lied.true) < OVERSTATEMENT
    assert lied.headline > 0.9 * lied.true
    assert lied.true > 0.6 * clean.true


@pytest.mark.parametrize("liars", [0, 1])
def test_a_swarm_that_follows_leads_comes_further(liars: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it comes beside one that waits until a peer's win is accepted."""

    def eight() -> Summary:
        return summarise([Night(2.0, seed, nodes=8, liars=liars).run() for seed in range(8)])

    followed = eight()
    monkeypatch.setattr(trust, "LEAD", math.inf)
    assert followed.true > 1.05 * eight().true
    assert abs(followed.claimed - followed.true) < OVERSTATEMENT


@pytest.mark.slow
def test_a_night_of_nothing_proves_anything_in_at_most_one_of_twenty() -> None:
    _, ours = compare(0.0, nights=200)
    assert ours.proving <= 0.05
