"""Claude over real HTTP: what it costs, and what happens where there is no answer."""

import json
import socket
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from agent import claude as module
from agent.budget import BYTES_A_TOKEN, HOUR_MINUTES, Budget, Limits, Spent, SpentError
from agent.claude import MAX_ANSWER_TOKENS
from agent.fallback import Fallback
from agent.local_search import LocalSearch
from agent.prompt import MAX_PROGRAM, RULES, TOOLS
from agent.proposer import UnavailableError
from tests.agent.messages_api import Answer, Call, Fail, Raw, Say, Service, events, serving
from tests.agent.models import ASSET, claude, context, edit
from tests.waiting import until

DOCUMENTED = Path(__file__).parent / "documented.sse"
EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
#: An error after the answer has begun.
OVERLOADED = (
    b"event: message_start\ndata: " + next(events(Say([]))).model_dump_json().encode() + b"\n\n"
    b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}\n\n'
)


# what it costs


async def test_tokens_are_counted_with_what_came_from_the_cache_apart() -> None:
    counted: Counter[str] = Counter()
    with serving(Say([edit()], input_tokens=10, output_tokens=20, cache_read=3000, cache_write=40)) as service:
        await claude(service, meter=counted).propose(context())
    assert counted == {"input": 10, "output": 20, "cache_read": 3000, "cache_write": 40}


@pytest.mark.parametrize("limits", [Limits(hour=30_000), Limits(total=30_000)])
async def test_a_budget_is_looked_at_before_the_call(limits: Limits) -> None:
    with serving(Say([edit()], input_tokens=20_000)) as service:
        proposer = claude(service, limits)
        assert await proposer.propose(context()) is not None
        with pytest.raises(UnavailableError, match="are spent"):
            await proposer.propose(context())
    assert len(service.requests) == 1


async def test_a_budget_ends_in_the_middle_of_a_proposal() -> None:
    with serving(Say([edit("NOWHERE")], input_tokens=30_000)) as service:
        with pytest.raises(UnavailableError, match="of --max-tokens are spent"):
            await claude(service, Limits(total=60_000)).propose(context())
        assert len(service.requests) == 2
        assert await claude(service, Limits(proposal=60_000)).propose(context()) is None
        assert len(service.requests) == 4


async def test_the_estimate_of_a_call_falls_short_of_no_script() -> None:
    """A letter of some scripts is a token, and what the tools are told counts too."""
    needed = []
    for text in ("a" * 30_000, "界" * 30_000):
        with serving(Say([edit()])) as service, pytest.raises(UnavailableError) as caught:
            await claude(service, Limits(total=1)).propose(replace(context(), program_text=text[:MAX_PROGRAM]))
        needed.append(int(str(caught.value).split("some ")[1].split()[0]) - MAX_ANSWER_TOKENS)
    plain, wide = needed
    assert wide >= MAX_PROGRAM
    assert plain >= (MAX_PROGRAM + len(str(TOOLS)) + len(RULES)) // BYTES_A_TOKEN


def test_an_hour_passes() -> None:
    now = [0.0]
    budget = Budget(Limits(hour=1000), lambda: now[0])
    budget.spend(900)
    for moment in (0.0, 3600.0):
        now[0] = moment
        with pytest.raises(SpentError, match="of --max-tokens-per-hour are spent"):
            budget.check(200)
    now[0] = 3660.0  # and the rest of the minute
    budget.check(200)


def test_a_clock_that_is_put_back_makes_an_hour_no_longer() -> None:
    now = [1e9]
    budget = Budget(Limits(hour=1000), lambda: now[0])
    budget.spend(900)
    now[0] = 0.0
    with pytest.raises(SpentError, match="of --max-tokens-per-hour are spent"):
        budget.check(200)
    now[0] = 3660.0
    budget.check(200)


def test_many_calls_of_an_hour_are_few_numbers() -> None:
    now, kept = [0.0], [Spent()]
    budget = Budget(Limits(), lambda: now[0], keep=kept.append)
    for second in range(0, 3 * 3600, 5):
        now[0] = float(second)
        budget.spend(1)
    assert kept[-1].total == 3 * 720
    assert len(kept[-1].minutes) == HOUR_MINUTES + 1
    assert sum(kept[-1].minutes.values()) == 12 * (HOUR_MINUTES + 1)


# where there is no answer


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Fail(401, "authentication_error"), "does not accept ANTHROPIC_API_KEY"),
        (Fail(400, "invalid_request_error", "Your credit balance is too low"), "credit balance is too low"),
        (Fail(529, "overloaded_error", headers={"retry-after-ms": "10"}), "529"),
        (Say([edit()], cut=0), "cut off"),
        (Say([edit()], cut=4), "cut off"),
        (Raw(b""), "can't be read"),
        (Raw(b"<html>Sign in</html>", "text/html"), "can't be read"),
        (Raw(b"event: message_start\ndata: {nonsense\n\n"), "can't be read"),
        (Raw(b'event: message_start\ndata: {"type": "message_start"}\n\n'), "can't be read"),
        (Raw(OVERLOADED), "broke off its answer: Overloaded"),
    ],
    ids=["key", "credit", "overloaded", "cut at once", "cut", "empty", "page", "no JSON", "no message", "broken off"],
)
@pytest.mark.filterwarnings("ignore:Async generator 'anthropic:ResourceWarning")  # the SDK's, on its way to an error
async def test_without_an_answer_it_says_why(answer: Answer, why: str) -> None:
    with serving(answer) as service, pytest.raises(UnavailableError, match=why):
        await claude(service).propose(context())


async def test_a_service_that_falls_silent_is_given_up() -> None:
    with serving(Say([edit()], pause=60.0)) as service:
        proposer = claude(service)
        proposer._client = proposer._client.with_options(timeout=0.3)
        with pytest.raises(UnavailableError, match="fell silent"):
            await proposer.propose(context())


async def test_a_service_that_does_not_begin_to_answer_is_asked_again_and_given_up() -> None:
    with serving(Say([edit()], late=True)) as service:
        proposer = claude(service)
        proposer._client = proposer._client.with_options(timeout=0.3, max_retries=1)
        with pytest.raises(UnavailableError, match="does not answer in time"):
            await proposer.propose(context())
        await until(lambda: len(service.requests) == 2)


async def test_a_slow_answer_is_waited_for_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Say([edit(), Call("note", {"text": "long " * 1600, "commits": []})], pause=0.1)
    with serving(slow) as service:
        proposer = claude(service)
        proposer._client = proposer._client.with_options(timeout=2.0)  # it takes longer, and is never so long silent
        assert await proposer.propose(context()) is not None
        monkeypatch.setattr(module, "ANSWER_SECONDS", 0.4)
        with pytest.raises(UnavailableError, match=r"did not end its answer within 0.4 s"):
            await proposer.propose(context())


async def test_what_was_cut_off_has_cost_what_it_cost() -> None:
    counted: Counter[str] = Counter()
    with serving(Say([edit()], input_tokens=10, cache_read=3000, cut=3)) as service:
        proposer = claude(service, Limits(total=60_000), counted)
        with pytest.raises(UnavailableError, match="cut off"):
            await proposer.propose(context())
    streamed = len(json.dumps(edit().input))
    assert counted == {"input": 10, "output": streamed // BYTES_A_TOKEN, "cache_read": 3000, "cache_write": 0}


async def test_what_was_waited_for_in_vain_is_estimated() -> None:
    counted: Counter[str] = Counter()
    with serving(Say([edit()], pause=60.0)) as service:
        proposer = claude(service, meter=counted)
        proposer._client = proposer._client.with_options(timeout=0.3, max_retries=0)
        with pytest.raises(UnavailableError):
            await proposer.propose(context())
        await until(lambda: len(service.requests) == 1)
    (request,) = service.requests
    asked = len(json.dumps([request["system"], request["messages"], request["tools"]]))
    assert 0.8 * asked < BYTES_A_TOKEN * counted["input"] < 1.2 * asked


async def test_what_was_asked_is_counted_before_it_is_answered() -> None:
    counted: Counter[str] = Counter()
    with serving(Say([edit()], input_tokens=10, cache_write=3000, stall=1)) as service:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(claude(service, meter=counted).propose, context())
            await until(lambda: counted["input"] == 10 and counted["cache_write"] == 3000)
            nursery.cancel_scope.cancel()
    assert (counted["input"], counted["cache_write"]) == (10, 3000)


async def test_what_took_too_long_has_cost_what_it_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()
    monkeypatch.setattr(module, "ANSWER_SECONDS", 10.0)
    said = Say(["w" * 6000, edit()])
    counts = [event.type for event in events(said)].index("message_delta")
    late = pytest.raises(UnavailableError, match="did not end its answer")
    with serving(replace(said, stall=counts)) as service, late:
        await claude(service, meter=counted).propose(context())
    assert counted["output"] == (6000 + len(json.dumps(edit().input))) // BYTES_A_TOKEN


async def test_what_was_never_asked_costs_nothing() -> None:
    """A service whose machine drops what comes: no connection is made."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        service, meter = Service(), Counter[str]()
        service.url = f"http://127.0.0.1:{full.getsockname()[1]}"
        with ExitStack() as stack:
            for _ in range(4):  # as many as wait to be taken, and more
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            proposer = claude(service, meter=meter)
            proposer._client = proposer._client.with_options(timeout=0.3, max_retries=0)
            with pytest.raises(UnavailableError, match="does not answer in time"):
                await proposer.propose(context())
    assert not meter.total()


async def test_what_the_service_counts_is_not_estimated() -> None:
    """Neither of a whole answer, nor, where the count is the larger, of one that breaks off behind it."""
    counted: Counter[str] = Counter()
    said = Say(["w" * 3000, edit()], output_tokens=5000)
    with serving(said, replace(said, cut=len(list(events(said))) - 1)) as service:
        proposer = claude(service, meter=counted)
        assert await proposer.propose(context()) is not None
        assert counted["output"] == 5000
        with pytest.raises(UnavailableError, match="cut off"):
            await proposer.propose(context())
        assert counted["output"] == 10_000
        service.answers[:] = [Say(["w" * 3000, edit(replace="DEPTH = 4")], output_tokens=3)]
        assert await proposer.propose(context()) is not None
    assert counted["output"] == 10_003


async def test_a_model_that_declines_is_not_asked_again() -> None:
    with serving(Say(["I can't help with that."], stop="refusal")) as service:
        assert await claude(service).propose(context()) is None
    assert len(service.requests) == 1


async def test_a_stream_of_the_documented_shape() -> None:
    """As https://platform.claude.com/docs/en/build-with-claude/streaming describes it, with what ``messages_api`` never
    says: pings, empty pieces, a service tier. Its events are held against the SDK's types.
    """
    said = [line.removeprefix("data: ") for line in DOCUMENTED.read_text().splitlines() if line.startswith("data: ")]
    kinds = [EVENT.validate_json(one).type for one in said if json.loads(one)["type"] != "ping"]
    assert len(kinds) == len(said) - 1
    with serving(Raw(DOCUMENTED.read_bytes())) as service:
        found = await claude(service).propose(context())
    assert found is not None
    assert found.asset == ASSET.replace(b"DEPTH = 2", b"DEPTH = 3")
    assert found.summary == "deeper"


async def test_a_service_that_is_busy_is_asked_again() -> None:
    busy = Fail(429, "rate_limit_error", headers={"retry-after-ms": "10"})
    with serving(busy, Fail(500, headers={"retry-after-ms": "10"}), Say([edit()])) as service:
        assert await claude(service).propose(context()) is not None
    assert len(service.requests) == 3


async def test_nobody_there() -> None:
    with serving(Say([edit()])) as service:
        proposer = claude(service)
    proposer._client = proposer._client.with_options(max_retries=0)
    with pytest.raises(UnavailableError, match=r"can't be reached: .*failed"):  # and why
        await proposer.propose(context())


async def test_local_search_takes_over_and_claude_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    asset = b"from tunables import Int\nDEPTH: Annotated[int, Int(1, 9)] = 2\n"
    with serving(Fail(401, "authentication_error")) as service:
        proposer = Fallback(claude(service), LocalSearch())
        found = [await proposer.propose(context(asset)) for _ in range(3)]
        assert all(edit is not None and edit.fallback for edit in found)
        assert len(service.requests) == 1  # and not before the pause is over
        assert [record.levelname for record in caplog.records].count("WARNING") == 1
        assert "local search" in caplog.text
        assert await Fallback(claude(service), None).propose(context(asset)) is None
