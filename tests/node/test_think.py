"""Ideas are thought of ahead, one for each lane."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from agent.proposer import Context, Edit
from node.records import Signal
from node.think import HEADROOM, MOST_ALONE_SECONDS, QUICK_SHARE, RETRY_SECONDS, Thinker
from tests.sim.fakes import Tally

THINK_SECONDS = 3.0
RUN_SECONDS = 10.0


class Slow:
    """Takes its time; the n-th edit is number n."""

    name = "slow"

    def __init__(self) -> None:
        self.asked = 0

    async def propose(self, context: Context) -> Edit | None:
        await trio.sleep(THINK_SECONDS)
        self.asked += 1
        return Edit(b"%d" % self.asked, f"edit {self.asked}")


async def context() -> Context:
    return Context("", "a", "0" * 40, b"", "cpu", (), (), lambda asset: False, 1)


@pytest.mark.parametrize("lanes", [1, 2, 3])
async def test_a_lane_does_not_wait_for_a_proposer_that_had_time(lanes: int, autojump_clock: MockClock) -> None:
    changed = Signal()
    thinker = Thinker(Slow(), context, changed, Tally(), lanes)
    waited: list[float] = []

    async def lane(runs: Sequence[int]) -> None:
        for _ in runs:
            begun = trio.current_time()
            while thinker.take() is None:
                await changed.wait(60)
            waited.append(trio.current_time() - begun)
            thinker.wake()
            await trio.sleep(RUN_SECONDS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(thinker.run)
        await trio.sleep(lanes * THINK_SECONDS)  # what the first of them cost
        async with trio.open_nursery() as working:
            for _ in range(lanes):
                working.start_soon(lane, range(10))
        nursery.cancel_scope.cancel()
    assert len(waited) == 10 * lanes
    assert max(waited) == 0.0


async def test_it_thinks_no_further_ahead_than_it_should(autojump_clock: MockClock) -> None:
    slow = Slow()
    thinker = Thinker(slow, context, Signal(), Tally(), 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thinker.run)
        await trio.sleep(100)
        assert slow.asked == 2
        idea = thinker.take()
        assert idea is not None
        assert idea.edit.summary == "edit 1"  # the oldest first
        await trio.sleep(100)
        assert slow.asked == 3
        nursery.cancel_scope.cancel()


class Quick(Slow):
    """Says when it was asked."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.begun: list[float] = []

    async def propose(self, context: Context) -> Edit | None:
        self.begun.append(trio.current_time())
        await trio.sleep(self._seconds)
        return Edit(b"", f"edit {len(self.begun)}")


@pytest.mark.parametrize("seconds", [0.5, RUN_SECONDS / HEADROOM])
async def test_a_thought_begins_as_late_as_it_may(seconds: float, autojump_clock: MockClock) -> None:
    """What others have learnt meanwhile goes into the idea, and the lane does not wait for it."""
    changed, quick = Signal(), Quick(seconds)
    ends = 0.0
    thinker = Thinker(quick, context, changed, Tally(), 1, lambda ideas: ends - trio.current_time(), RUN_SECONDS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thinker.run)
        await trio.sleep(seconds + 1)
        for number in range(1, 5):
            ends = trio.current_time() + RUN_SECONDS
            assert thinker.take() is not None
            thinker.wake()
            await trio.sleep(RUN_SECONDS)
            assert len(quick.begun) == number + 1
            assert ends - quick.begun[-1] == pytest.approx(HEADROOM * seconds)
        nursery.cancel_scope.cancel()


async def test_a_quick_thought_begins_when_a_lane_wants_it(autojump_clock: MockClock) -> None:
    changed, quick, resting = Signal(), Quick(QUICK_SHARE * RUN_SECONDS / 2), False
    thinker = Thinker(quick, context, changed, Tally(), 1, lambda ideas: 0.0 if resting else 1.0, RUN_SECONDS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thinker.run)
        await trio.sleep(1)
        assert thinker.take() is not None  # the first: who knows how long it takes
        for _ in range(4):
            await trio.sleep(RUN_SECONDS)
            wanted = trio.current_time()
            assert thinker.take() is None
            resting = True
            await changed.wait(60)
            assert quick.begun[-1] == wanted
            resting = False
            assert thinker.take() is not None
        nursery.cancel_scope.cancel()
    assert len(quick.begun) == 5


async def test_a_run_that_ends_early_gets_its_idea_after_one_thought(autojump_clock: MockClock) -> None:
    changed, quick, ends = Signal(), Quick(0.5), 1000.0
    thinker = Thinker(quick, context, changed, Tally(), 1, lambda ideas: ends - trio.current_time(), RUN_SECONDS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thinker.run)
        await trio.sleep(1)
        assert thinker.take() is not None
        await trio.sleep(20)
        assert len(quick.begun) == 1
        ends = begun = trio.current_time()
        assert thinker.take() is None
        await changed.wait(60)
        assert thinker.take() is not None
        assert trio.current_time() == begun + 0.5
        nursery.cancel_scope.cancel()


class Failing(Slow):
    """Raises what nobody foresaw, once in a while."""

    async def propose(self, context: Context) -> Edit | None:
        edit = await super().propose(context)
        if self.asked % 2:
            raise ExceptionGroup("of a nursery", [RuntimeError("no such thing")])
        return edit


async def test_a_proposer_that_fails_is_asked_again_after_a_while(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    changed, tally, failing = Signal(), Tally(), Failing()
    thinker = Thinker(failing, context, changed, tally, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thinker.run)
        await trio.sleep(THINK_SECONDS + 1)
        changed.send()  # a record is no reason to try at once
        await trio.sleep(THINK_SECONDS + 1)
        assert failing.asked == 1
        assert thinker.take() is None
        await trio.sleep(RETRY_SECONDS)
        changed.send()
        await trio.sleep(THINK_SECONDS + 1)
        idea = thinker.take()
        nursery.cancel_scope.cancel()
    assert idea is not None
    assert idea.edit.summary == "edit 2"
    assert tally.thoughts == ["error", "edit"]
    assert "no such thing" in caplog.text  # with its traceback


class Broken(Slow):
    """Raises on and on, but for the ``fine``-th time."""

    def __init__(self, fine: int) -> None:
        super().__init__()
        self._fine = fine
        self.times: list[float] = []

    async def propose(self, context: Context) -> Edit | None:
        self.times.append(trio.current_time())
        edit = await super().propose(context)
        if self.asked != self._fine:
            raise RuntimeError("no such thing")
        return edit


async def test_one_that_fails_on_is_left_alone_for_ever_longer(autojump_clock: MockClock) -> None:
    """Each time may have cost money; an idea ends it."""
    broken = Broken(fine=12)
    thinker = Thinker(broken, context, Signal(), Tally(), 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thinker.run)
        await trio.sleep(10 * MOST_ALONE_SECONDS)
        assert thinker.take() is not None
        await trio.sleep(10 * RETRY_SECONDS)
        nursery.cancel_scope.cancel()
    pauses = [after - before - THINK_SECONDS - RETRY_SECONDS for before, after in pairwise(broken.times)]
    doubled = [min(RETRY_SECONDS * 2**times, MOST_ALONE_SECONDS) for times in range(11)]
    assert pauses[:11] == pytest.approx(doubled)
    assert pauses[12:] == pytest.approx([RETRY_SECONDS, 2 * RETRY_SECONDS])
