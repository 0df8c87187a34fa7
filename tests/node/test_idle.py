"""What share of the lanes' time had no experiment."""

import pytest
import trio
from trio.testing import MockClock

from node.idle import Idle
from node.kept_idle import kept_shares
from protocol import codec
from tests.sim.fakes import Tally


class Listening(Tally):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[tuple[str, float]] = []

    def idle(self, cause: str, seconds: float) -> None:
        self.seconds.append((cause, seconds))


async def test_of_two_lanes_one_waits_for_a_quarter_of_the_time(autojump_clock: MockClock) -> None:
    meters = Listening()
    idle = Idle(meters, 2)
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
        idle = Idle(Tally(), lanes, kept)
        idle.begin()
        with idle.because("paused"):
            await trio.sleep(seconds)
        idle.end()
        kept = idle.to_keep()
    assert kept_shares(kept) == {"paused": pytest.approx(15.0 / 20.0, rel=0.01)}
    assert kept_shares(Idle(Tally(), 1, kept).to_keep()) == kept_shares(kept)
    assert kept_shares(None) == {}


@pytest.mark.parametrize("kept", [b"\xc1", codec.encode(1), codec.encode([1.0, 2.0]), codec.encode(["a", {}])])
def test_damage_is_no_reason_not_to_begin(kept: bytes) -> None:
    assert kept_shares(kept) == {}


async def test_who_is_cancelled_while_idle_was_idle_until_then(autojump_clock: MockClock) -> None:
    idle = Idle(Tally(), 1)
    idle.begin()
    with trio.move_on_after(2.0), idle.because("nothing to do"):
        await trio.sleep_forever()
    assert idle.shares() == {"nothing to do": pytest.approx(1.0, rel=0.01)}
