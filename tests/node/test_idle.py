"""What share of the lanes' time had no experiment."""

import pytest
import trio
from trio.testing import MockClock

from node.idle import Idle, kept_shares
from tests.node.nodes import EPOCH_MS
from tests.sim.fakes import Tally


class Listening(Tally):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[tuple[str, float]] = []

    def idle(self, cause: str, seconds: float) -> None:
        self.seconds.append((cause, seconds))


def clock_ms() -> int:
    return EPOCH_MS + round(trio.current_time() * 1000)


async def test_of_two_lanes_one_waits_for_a_quarter_of_the_time(autojump_clock: MockClock) -> None:
    meters = Listening()
    idle = Idle(meters, 2, clock_ms)
    assert idle.shares() == {}
    idle.begin()
    with idle.because("proposer"):
        await trio.sleep(5.0)
    await trio.sleep(5.0)
    assert idle.shares() == {"proposer": pytest.approx(0.25, rel=0.01)}
    idle.end()
    await trio.sleep(100.0)
    assert idle.shares() == {"proposer": pytest.approx(0.25, rel=0.01)}
    assert meters.seconds == [("proposer", pytest.approx(5.0))]


async def test_what_was_idle_is_counted_over_restarts(autojump_clock: MockClock) -> None:
    kept = None
    for lanes, seconds in ((1, 10.0), (2, 5.0)):
        idle = Idle(Tally(), lanes, clock_ms, kept)
        idle.begin()
        with idle.because("paused"):
            await trio.sleep(seconds)
        idle.end()
        kept = idle.to_keep()
    assert kept_shares(kept) == {"paused": pytest.approx(15.0 / 20.0, rel=0.01)}
    assert kept_shares(Idle(Tally(), 1, clock_ms, kept).to_keep()) == kept_shares(kept)
    assert kept_shares(None) == {}


async def test_who_is_cancelled_while_idle_was_idle_until_then(autojump_clock: MockClock) -> None:
    idle = Idle(Tally(), 1, clock_ms)
    idle.begin()
    with trio.move_on_after(2.0), idle.because("nothing to do"):
        await trio.sleep_forever()
    assert idle.shares() == {"nothing to do": pytest.approx(1.0, rel=0.01)}
