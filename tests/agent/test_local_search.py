"""The keyless proposer steps from the base, learns from trials, and says what it changed."""

import random
from collections.abc import Mapping

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from agent.domains import Choice, Domain, Int, Log, Tunable, Uniform, When, fit
from agent.evidence import MAX_TRIALS, choose_trials, comparable, evidence
from agent.local_search import FIRST_MOVES, LocalSearch, ideas
from agent.proposer import Context, Trial
from agent.space import Space, at, changes, describe, draw, step, tidy, unit
from agent.tunables import read_tunables
from protocol.statements import Scalar, Status

NAMES = ["a", "b", "c", "d"]
ASSET = (
    "{"
    + ", ".join(f'"{name}": {{"value": 0.5, "low": 0.0, "high": 1.0}}' for name in NAMES)
    + ', "mode": {"value": "p", "choices": ["p", "q", "r"]}}'
).encode()
DOMAINS = [
    Log(1e-4, 0.1),
    Uniform(-2.0, 3.0),
    Int(1, 9),
    Int(1, 16, log=True),
    Int(-3, 3),
    Choice("p", "q", "r"),
]


def loss(values: Mapping[str, Scalar]) -> float:
    """Least, -0.5, where a is 0.9, b is 0.2 and mode is q; c and d don't matter."""
    return (float(values["a"]) - 0.9) ** 2 + (float(values["b"]) - 0.2) ** 2 - 0.5 * (values["mode"] == "q")


def context(trials: list[Trial], *, asset: bytes = ASSET, seed: int = 0, base: str = "0") -> Context:
    return Context("", "a.json", base, asset, "cpu", trials, [], lambda asset: False, seed)


def trial(commit: object, values: Mapping[str, Scalar], value: float | None, tier: str = "cpu") -> Trial:
    return Trial(str(commit), values, value, Status.CRASHED if value is None else Status.SCORED, tier)


def space() -> Space:
    return Space(read_tunables(ASSET, "a.json"))


def sample(count: int) -> list[Trial]:
    rng = random.Random(1)
    points = [space().base, *(space().draw(rng) for _ in range(count - 1))]
    return [trial(place, point, loss(point)) for place, point in enumerate(points)]


async def test_the_first_edits_are_small_steps() -> None:
    for seed in range(10):
        edit = await LocalSearch().propose(context([], seed=seed))
        assert edit is not None
        point = {name: tunable.value for name, tunable in read_tunables(edit.asset, "a.json").items()}
        assert 1 <= len(changes(space().base, point)) <= FIRST_MOVES
        assert edit.summary == describe(space().base, point)


async def test_it_learns_where_the_loss_falls() -> None:
    known, found = sample(40), []
    for seed in range(8):
        edit = await LocalSearch().propose(context(known, seed=seed))
        assert edit is not None
        found.append({name: tunable.value for name, tunable in read_tunables(edit.asset, "a.json").items()})
    assert sum(point["mode"] == "q" for point in found) >= 6
    assert sum(float(point["a"]) >= 0.5 for point in found) >= 6
    assert sum(loss(point) < loss(space().base) for point in found) >= 6


PAIR = (
    b'{"a": {"value": 0.5, "low": 0.0, "high": 1.0}, "norm": {"value": "layer", "choices": ["layer", "rms"]},'
    b' "positions": {"value": "learned", "choices": ["learned", "rotary"]}}'
)


async def test_it_finds_what_only_two_changes_together_gain() -> None:
    """Each alone loses, so that no chain of single steps leads there."""

    def loss(values: Mapping[str, Scalar]) -> float:
        rms, rotary = values["norm"] == "rms", values["positions"] == "rotary"
        return (float(values["a"]) - 0.6) ** 2 + 0.2 * (rms != rotary) - 0.5 * (rms and rotary)

    for seed in range(3):
        base = Space(read_tunables(PAIR, "a.json")).base
        known, assets, rng, proposer = [trial(0, base, loss(base))], [PAIR], random.Random(seed), LocalSearch()
        for place in range(1, 30):
            best = min(range(place), key=lambda item: known[item].value or 0.0)
            given = context(known, asset=assets[best], base=str(best), seed=rng.getrandbits(63))
            edit = await proposer.propose(given)
            assert edit is not None
            assets.append(edit.asset)
            point = {name: tunable.value for name, tunable in read_tunables(edit.asset, "a.json").items()}
            known.append(trial(place, point, loss(point)))
        assert min(one.value or 0.0 for one in known) < -0.4


async def test_it_steers_away_from_what_crashes() -> None:
    rng = random.Random(2)
    points = [space().base, *(space().draw(rng) for _ in range(59))]
    known = [trial(place, point, None if point["mode"] == "q" else 1.0 - 0.1 * float(point["a"]))
             for place, point in enumerate(points)]  # fmt: skip
    edits = [await LocalSearch().propose(context(known, seed=seed)) for seed in range(8)]
    modes = [read_tunables(edit.asset, "a.json")["mode"].value for edit in edits if edit]
    assert modes.count("q") <= 1


async def test_it_beats_random_search_in_forty_experiments() -> None:
    ends = {"local": 0.0, "random": 0.0}
    for seed in range(2):
        rng = random.Random(seed)
        ends["random"] += min(loss(space().draw(rng)) for _ in range(40))
        known, best, asset = [trial(0, space().base, loss(space().base))], 0, ASSET
        assets, proposer = [ASSET], LocalSearch()
        for place in range(1, 40):
            edit = await proposer.propose(context(known, asset=asset, base=str(best), seed=rng.getrandbits(63)))
            assert edit is not None
            point = {name: tunable.value for name, tunable in read_tunables(edit.asset, "a.json").items()}
            known.append(trial(place, point, loss(point)))
            assets.append(edit.asset)
            best = min(range(len(known)), key=lambda item: known[item].value or 0.0)
            asset = assets[best]
        ends["local"] += loss(known[best].tunables)
    assert ends["local"] < ends["random"]


def test_a_tunable_that_a_trial_lacks_has_the_bases_value() -> None:
    known = evidence(space(), context([trial(0, {"a": 0.25}, 1.0), trial(1, {"z": 0.25}, 2.0)]), [])
    assert known.points == [{**space().base, "a": 0.25}]


def test_what_is_being_run_promises_nothing() -> None:
    here = {**space().base, "a": 0.25}
    known = evidence(space(), context([trial(0, space().base, 3.0), trial(1, {"b": 0.1}, 2.0)]), [here])
    assert (known.points[-1], known.losses[-1], known.level) == (here, 3.0, 3.0)


def test_a_failure_counts_as_the_worst_loss() -> None:
    known = evidence(space(), context([trial(0, {"a": 0.1}, 3.0), trial(1, {"a": 0.2}, None)]), [])
    assert known.losses == [3.0, 3.0]


def test_an_absurd_loss_is_not_what_failures_count_as() -> None:
    values = [3.0, 1.0, 2.0, 1e100, -1e100, None]
    trials = [trial(place, {"a": place / 9}, one) for place, one in enumerate(values)]
    known = evidence(space(), context(trials), [])
    assert known.losses[-1] == max(known.losses) == 3.0
    assert -10.0 < min(known.losses) < 1.0


def test_a_leap_among_changes_that_hardly_matter_is_seen_as_one() -> None:
    values = [1.888, 1.886, 1.89, 1.885, 1.2]
    trials = [trial(place, {"a": place / 9}, one) for place, one in enumerate(values)]
    losses = evidence(space(), context(trials), []).losses
    assert losses[:-1] == values[:-1]
    assert losses[-1] < 1.885 - (1.886 - 1.885)


def test_honest_losses_are_left_as_they_are() -> None:
    values = [1.9, 1.7, 2.4, 1.85, 5.5, 1.55, 1.8, 1.9]
    trials = [trial(place, {"a": place / 9}, one) for place, one in enumerate(values)]
    assert evidence(space(), context(trials), []).losses == values


def test_another_tiers_trials_are_moved_to_this_ones_level() -> None:
    known = [trial(0, {}, 2.0), trial(0, {}, 5.0, "gpu"), trial(1, {}, 4.5, "gpu"), trial(2, {}, None, "gpu"),
             trial(3, {}, 9.0, "tpu")]  # fmt: skip
    assert comparable(known, "cpu") == [trial(1, {}, 1.5, "gpu"), trial(0, {}, 2.0)]


def test_only_the_best_and_the_latest_of_many_trials_are_used() -> None:
    known = [trial(place, {}, abs(place - 10) if place % 3 else None) for place in range(1000)]
    chosen = choose_trials(known)
    assert len(chosen) == MAX_TRIALS
    assert all(known[place] in chosen for place in (10, 11, 999))
    assert chosen == sorted(chosen, key=lambda item: int(item.commit))


async def test_a_search_is_cancelled_between_its_costly_parts() -> None:
    """The search itself asks; a node that stops does not wait for the whole of it."""
    asked = 0

    def pause() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise trio.EndOfChannel

    known = evidence(space(), context(sample(40)), [])
    with pytest.raises(trio.EndOfChannel):
        next(ideas(space(), known, random.Random(0), pause))


def test_a_summary_says_what_changed() -> None:
    old: dict[str, Scalar] = {"LEARNING_RATE": 0.001, "DEPTH": 2, "TIED": False, "NORM": "layer"}
    new: dict[str, Scalar] = {"LEARNING_RATE": 0.0031, "DEPTH": 3, "TIED": True, "NORM": "layer"}
    assert describe(old, new) == "learning_rate 0.001 -> 0.0031, depth 2 -> 3, tied false -> true"


@given(st.sampled_from(DOMAINS), st.randoms(use_true_random=False), st.floats(0.01, 1.0))
def test_what_is_drawn_or_stepped_to_is_in_the_domain(domain: Domain, rng: random.Random, spread: float) -> None:
    value = draw(domain, rng)
    moved = step(domain, value, spread, rng)
    assert fit(domain, value) == value
    assert fit(domain, moved) == moved
    assert tidy(domain, moved) == moved
    if isinstance(domain, Choice | Int):
        assert moved != value


@given(st.sampled_from(DOMAINS[:5]), st.floats(0.0, 1.0))
def test_a_coordinate_and_its_number_agree(domain: Log | Uniform | Int, coordinate: float) -> None:
    number = at(domain, coordinate)
    assert at(domain, unit(domain, number)) == number


def test_every_whole_number_is_drawn_as_often() -> None:
    rng = random.Random(0)
    drawn = [draw(Int(1, 4), rng) for _ in range(4000)]
    counts = [drawn.count(number) for number in range(1, 5)]
    assert min(counts) > 900


WAITING = Space(
    {
        "kind": Tunable("kind", "adam", Choice("adam", "muon")),
        "rate": Tunable("rate", 3.0, Log(1.0, 9.0), When("kind", "muon")),
    }
)


@given(st.randoms(use_true_random=False))
def test_what_does_nothing_at_a_point_has_the_bases_value(rng: random.Random) -> None:
    for point in (
        WAITING.draw(rng),
        WAITING.step(WAITING.base, ["rate"], 0.5, rng),
        WAITING.step({"kind": "muon", "rate": 5.0}, ["kind", "rate"], 0.5, rng),
        WAITING.place({"kind": "adam", "rate": 8.0}),
    ):
        assert point is not None
        assert point["kind"] == "muon" or point["rate"] == 3.0
    assert WAITING.place({"kind": "muon", "rate": 8.0}) == {"kind": "muon", "rate": 8.0}


def test_a_domain_with_one_value_is_not_searched() -> None:
    fixed = {
        "n": Tunable("n", 1, Int(1, 1)),
        "x": Tunable("x", 1.0, Log(1.0, 1.0)),
        "y": Tunable("y", 0, Int(0, 1)),
    }
    assert list(Space(fixed).points()) == [{"y": 0}, {"y": 1}]
