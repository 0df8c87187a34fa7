"""What the local search promises beyond what all proposers do (tests/contract/proposers.py)."""

import random
from collections.abc import Callable, Iterable, Sequence

import pytest
import trio

from agent.essence import essence
from agent.local_search import LocalSearch
from agent.proposer import Attempt, Context, Edit, Proposer, Trial
from agent.tunables import read_tunables, write_tunables
from protocol.statements import Scalar, Status
from trainer.program import load_program

NUMBERS = b"""{
  "x": {"value": 0.5, "low": 0.0, "high": 1.0, "log": false},
  "z": {"value": 0.1, "low": 0.001, "high": 1.0, "log": true},
  "mode": {"value": "plain", "choices": ["plain", "better", "worse"]}
}
"""
#: Twelve points.
SMALL = b"""from tunables import Choice, Int
DEPTH: Annotated[int, Int(1, 6)] = 2
TIED: Annotated[bool, Choice(False, True)] = False
"""


def context(
    asset: bytes = NUMBERS,
    name: str = "numbers.json",
    *,
    trials: Sequence[Trial] = (),
    running: Sequence[dict[str, Scalar]] = (),
    taken: Callable[[bytes], bool] = lambda asset: False,
    seed: int = 1,
) -> Context:
    attempts = [Attempt("", values) for values in running]
    return Context("Find the numbers.", name, "0" * 40, asset, "cpu", trials, attempts, taken, seed)


def trials(asset: bytes, name: str, count: int) -> list[Trial]:
    """``count`` random points, the first of them the asset's own; every fifth has crashed."""
    rng = random.Random(7)
    found = [Trial("0" * 40, values(asset, name), 1.0, Status.SCORED, "cpu")]
    for place in range(1, count):
        crashed = place % 5 == 0
        point = {**values(asset, name), "x": round(rng.random(), 3)}
        found.append(Trial(f"{place:040x}", point, None if crashed else rng.random(),
                           Status.CRASHED if crashed else Status.SCORED, "cpu"))  # fmt: skip
    return found


def values(asset: bytes, name: str) -> dict[str, Scalar]:
    return {key: tunable.value for key, tunable in read_tunables(asset, name).items()}


async def propose(proposer: Proposer, given: Context) -> Edit:
    edit = await proposer.propose(given)
    assert edit is not None
    return edit


def lm_mini() -> tuple[bytes, str]:
    program = load_program("lm-mini")
    return program.asset, program.spec.asset


@pytest.mark.parametrize("count", [0, 30])
@pytest.mark.parametrize("asset_of", [lm_mini, lambda: (NUMBERS, "numbers.json")], ids=["python", "json"])
async def test_only_the_values_of_tunables_change(
    asset_of: Callable[[], tuple[bytes, str]], count: int
) -> None:
    asset, name = asset_of()
    edit = await propose(LocalSearch(), context(asset, name, trials=trials(asset, name, count)))
    assert edit.asset != asset
    assert essence(write_tunables(edit.asset, name, values(asset, name)), name) == essence(asset, name)


@pytest.mark.parametrize("count", [0, 30])
async def test_the_same_context_gives_the_same_edit(count: int) -> None:
    known = trials(NUMBERS, "numbers.json", count)
    edits = [await propose(LocalSearch(), context(trials=known)) for _ in range(2)]
    assert edits[0] == edits[1]
    others = [await propose(LocalSearch(), context(trials=known, seed=seed)) for seed in range(2, 6)]
    assert any(other != edits[0] for other in others)



async def test_a_space_is_searched_to_its_end() -> None:
    proposer = LocalSearch()
    assets = {SMALL}
    for _ in range(11):
        assets.add((await propose(proposer, context(SMALL, "train.py"))).asset)
    assert len(assets) == 12
    assert await proposer.propose(context(SMALL, "train.py")) is None


@pytest.mark.parametrize("asset", [b"", b"x = (", b"X: Annotated[int, Int(3, 3)] = 3\n", b"\xff\0"])
async def test_an_asset_with_nothing_to_tune(asset: bytes) -> None:
    assert await LocalSearch().propose(context(asset, "train.py")) is None



@pytest.mark.parametrize("failed", [Status.CRASHED, Status.TIMED_OUT, Status.STOPPED_EARLY])
async def test_where_every_trial_failed_it_goes_on(failed: Status) -> None:
    known = [Trial(f"{place:040x}", {"x": place / 9}, None, failed, "cpu") for place in range(9)]
    await propose(LocalSearch(), context(trials=known))


async def test_trials_of_another_space_are_survived() -> None:
    strange: Iterable[dict[str, Scalar]] = (
        {}, {"other": 3}, {"x": "text"}, {"x": 7.0}, {"x": True, "mode": 1}, {"mode": "gone"}, {"z": 0.0},
        {"x": 0.25, "other": "é"}, {"z": 0.01},
    )  # fmt: skip
    known = [
        Trial(f"{place:040x}", item, 1.0 + place, Status.SCORED, "cpu") for place, item in enumerate(strange)
    ]
    await propose(LocalSearch(), context(trials=known, running=list(strange)))


@pytest.mark.parametrize("count", [0, 30])
async def test_cancelled_it_leaves_nothing_running(count: int) -> None:
    threads = trio.to_thread.current_default_thread_limiter()
    proposer, ended = LocalSearch(), False
    with trio.CancelScope() as scope, trio.fail_after(20):

        def taken(asset: bytes) -> bool:
            scope.cancel()
            return True

        known = trials(NUMBERS, "numbers.json", count)
        await proposer.propose(context(taken=taken, trials=known))
        ended = True
    assert scope.cancelled_caught
    assert not ended
    assert threads.borrowed_tokens == 0
    await propose(proposer, context())
