"""Who stands in for a model that can't be had or has nothing to propose, and when it is asked again."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from trio.testing import MockClock

from agent.budget import Budget, Limits
from agent.claude import MAX_ANSWER_TOKENS, MOST_CALLS, Claude
from agent.fallback import MOST_PAUSE_SECONDS, PAUSE_SECONDS, Fallback
from agent.local_search import LocalSearch
from agent.proposer import Context, Edit, UnavailableError
from tests.agent.messages_api import Call, Say, Service, serving

ASSET = b"from tunables import Int\nDEPTH: Annotated[int, Int(1, 9)] = 2\n"
GIVES_UP = Say([Call("give_up", {"reason": "nothing left"})])
REFUSES = Say(["I can't help with that."], stop="refusal")
BLUNDERS = Say([Call("bash", {})])


def context(base: str = "0") -> Context:
    return Context("Make it better.", "train.py", base * 40, ASSET, "cpu", (), (), lambda asset: False, 1)


def edit(depth: int) -> Say:
    text = ASSET.replace(b"= 2", b"= %d" % depth).decode()
    return Say([Call("edit", {"summary": "deeper", "hypothesis": "", "whole_file": text})])


def claude(service: Service, limits: Limits | None = None) -> Claude:
    return Claude(service.client(), Budget(limits or Limits(), lambda: 0.0))


@pytest.mark.parametrize(("answer", "calls"), [(GIVES_UP, 1), (REFUSES, 1), (BLUNDERS, MOST_CALLS)])
async def test_local_search_takes_over_where_a_model_has_nothing_for_a_base(
    answer: Say, calls: int, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(answer) as service:
        proposer = Fallback(claude(service), LocalSearch())
        found = [await proposer.propose(context()) for _ in range(3)]
        assert len(service.requests) == calls
        service.answers[:] = [edit(5)]
        other = await proposer.propose(context("1"))
    assert all(found)
    assert all(one is not None and one.fallback for one in found)
    assert other is not None
    assert not other.fallback  # another base is another matter
    assert caplog.text.count("local search until it is asked again in 60 s") == 1


async def test_without_local_search_it_waits_and_asks_again(mock_clock: MockClock) -> None:
    with serving(GIVES_UP) as service:
        proposer = Fallback(claude(service), None)
        assert [await proposer.propose(context()) for _ in range(3)] == [None] * 3
        assert len(service.requests) == 1
        service.answers[:] = [edit(5)]
        mock_clock.jump(PAUSE_SECONDS - 1)
        assert await proposer.propose(context()) is None
        mock_clock.jump(1)
        assert await proposer.propose(context()) is not None


class Told:
    """Says what it is told to; what is an error is raised."""

    name = "told"

    def __init__(self, *answers: Edit | Exception | None) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def propose(self, context: Context) -> Edit | None:
        self.asked.append(context.base[0])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


FINE = Edit(b"x", "fine")
GONE = UnavailableError("it is gone")


async def ask(proposer: Fallback, bases: Sequence[str]) -> None:
    for base in bases:
        await proposer.propose(context(base))


async def test_bases_wait_for_themselves_and_all_for_who_is_gone(mock_clock: MockClock) -> None:
    told = Told(None, None, GONE, FINE, FINE)
    proposer = Fallback(told, None)
    await ask(proposer, "abab")
    assert told.asked == ["a", "b"]
    await ask(proposer, "cdab")
    assert told.asked == ["a", "b", "c"]
    mock_clock.jump(MOST_PAUSE_SECONDS)
    await ask(proposer, "ab")
    assert told.asked == ["a", "b", "c", "a", "b"]


@pytest.mark.parametrize("answer", [None, GONE], ids=["nothing", "gone"])
async def test_pauses_double_up_to_a_bound_until_there_is_an_edit(
    answer: Exception | None, mock_clock: MockClock
) -> None:
    told = Told(*[answer] * 9, FINE, answer, FINE)
    proposer = Fallback(told, None)
    for asked in range(1, 10):
        await ask(proposer, "aa")
        assert len(told.asked) == asked
        mock_clock.jump(min(PAUSE_SECONDS * 2 ** (asked - 1), MOST_PAUSE_SECONDS))
    await ask(proposer, "aaa")
    assert len(told.asked) == 11
    mock_clock.jump(PAUSE_SECONDS)
    await ask(proposer, "a")
    assert len(told.asked) == 12


@pytest.mark.parametrize(
    ("limit", "option"),
    [("proposal", "--max-tokens-per-proposal"), ("hour", "--max-tokens-per-hour"), ("total", "--max-tokens")],
)
async def test_a_limit_below_the_first_call_is_said(limit: str, option: str) -> None:
    with serving(edit(5)) as service:
        with pytest.raises(UnavailableError) as caught:
            await claude(service, replace(Limits(), **{limit: MAX_ANSWER_TOKENS})).propose(context())
        assert service.requests == []
        said = re.fullmatch(
            rf"a first call needs some (\d+) tokens, more than the {MAX_ANSWER_TOKENS} of {option}:"
            rf" raise it, or lift it with {option} none", str(caught.value),
        )  # fmt: skip
        assert said is not None
        assert await claude(service, replace(Limits(), **{limit: int(said[1])})).propose(context()) is not None
