"""Claude over real HTTP: what is asked, and what becomes of each answer."""

import typing
from dataclasses import replace
from typing import Any

import pytest
from anthropic.types import Model

from agent.claude import MAX_ANSWER_TOKENS, MODEL, MOST_CALLS, MOST_MENDS
from agent.digest import QUOTE
from agent.prompt import TOOLS
from agent.proposer import ALREADY_RUN, BEING_RUN, Trial
from protocol.commits import blob_id
from protocol.statements import Status
from tests.agent.messages_api import Call, Say, serving
from tests.agent.models import ASSET, BASE, OTHER, claude, context, crash, edit, results


async def test_an_edit_by_search_and_replace() -> None:
    with serving(Say(["I'll try depth.", edit()])) as service:
        found = await claude(service).propose(context())
    assert found is not None
    assert found.asset == ASSET.replace(b"DEPTH = 2", b"DEPTH = 3")
    assert (found.summary, found.hypothesis) == ("deeper", "more layers")
    (request,) = service.requests
    assert request["model"] == MODEL
    assert request["max_tokens"] == MAX_ANSWER_TOKENS
    assert [tool["name"] for tool in request["tools"]] == ["edit", "note", "give_up"]


async def test_the_prefix_is_cached_and_does_not_change() -> None:
    trial = Trial(OTHER, {}, 1.5, Status.SCORED, "cpu", parent=BASE, author="ada", summary="wider", gain=-0.1)
    fixed = {"runner.py": b'"""Runs it."""\ndef run(depth: int) -> None:\n    """Train."""\n    secret = 1\n'}
    with serving(Say([edit()]), Say([edit(replace="DEPTH = 4")])) as service:
        proposer = claude(service)
        await proposer.propose(context(fixed=fixed))
        await proposer.propose(context(trials=[trial], fixed=fixed))
    first, second = service.requests
    assert first["system"] == second["system"]
    (prefix,) = first["system"]
    assert prefix["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert "Make it better." in prefix["text"]
    assert "def run(depth: int) -> None:" in prefix["text"]
    assert "secret" not in prefix["text"]  # interfaces, not insides
    asset, ledger = second["messages"][0]["content"]
    assert asset["cache_control"] == {"type": "ephemeral"}
    assert "   2 DEPTH = 2" in asset["text"]
    assert asset == first["messages"][0]["content"][0]
    assert f"{QUOTE}wider" in ledger["text"]
    assert "-10.0 sigma" in ledger["text"]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (edit("DEPTH = 9"), "does not occur"),
        (edit("= "), "occurs 2 times"),
        (edit("DEPTH = 2", "DEPTH = ("), "line 2"),
        (edit("DEPTH = 2", "DEPTH = 2"), "as it was"),
        (edit("DEPTH = 2", "DEPTH = 7"), "tried or proposed already"),
        (Call("edit", {"summary": "s", "hypothesis": "h"}), "expected blocks"),
        (Call("edit", {"blocks": [{"search": 1}], "summary": "s"}), "both strings"),
        (Call("edit", {"whole_file": "x = 1\n" * 44_000, "summary": "s"}), "at most"),
        (Call("edit", {"path": "runner.py", **edit().input}), "no 'path': it changes train.py alone"),
        (Call("bash", {"command": "rm -rf /"}), "no tool 'bash'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_wrong_goes_back_with_the_reason(call: Call, why: str) -> None:
    with serving(Say([call]), Say([edit()])) as service:
        found = await claude(service).propose(context(taken=lambda asset: b"DEPTH = 7" in asset))
    assert found is not None
    (said,) = results(service.requests[1])
    assert why in said


@pytest.mark.parametrize("repeated", [ALREADY_RUN, BEING_RUN])
async def test_what_repeats_an_experiment_goes_back(repeated: str) -> None:
    async def repeats(asset: bytes) -> str:
        return repeated if b"DEPTH = 3" in asset else ""

    with serving(Say([edit()]), Say([edit(replace="DEPTH = 4")])) as service:
        found = await claude(service).propose(context(repeats=repeats))
    assert found is not None
    assert b"DEPTH = 4" in found.asset
    (said,) = results(service.requests[1])
    assert f"this edit is {repeated}" in said


@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded"])
async def test_an_edit_that_was_cut_off_is_not_run(stop: str) -> None:
    with serving(Say([edit()], stop=stop), Say([edit(replace="DEPTH = 4")])) as service:
        found = await claude(service).propose(context())
    assert found is not None
    assert b"DEPTH = 4" in found.asset
    assert "cut off" in results(service.requests[1])[0]


async def test_it_is_asked_so_often_and_no_more() -> None:
    with serving(Say([edit("NOWHERE")])) as service:
        assert await claude(service).propose(context()) is None
    assert len(service.requests) == MOST_CALLS


async def test_words_without_a_tool_are_answered() -> None:
    with serving(Say(["Hmm."], stop="end_turn"), Say([edit()])) as service:
        assert await claude(service).propose(context()) is not None
    assert service.requests[1]["messages"][-1]["content"] == "Answer with a tool."


@pytest.mark.parametrize("said", [[], [" "]], ids=["nothing", "blank"])
async def test_after_an_empty_answer_it_is_not_asked_the_same_again(said: list[str]) -> None:
    with serving(Say(said, stop="end_turn"), Say([edit()])) as service:
        assert await claude(service).propose(context()) is not None
    first, second = (request["messages"] for request in service.requests)
    assert second == [*first, {"role": "user", "content": "Answer with a tool."}]


async def test_a_whole_file_a_note_and_giving_up() -> None:
    noted: list[tuple[str, list[str]]] = []
    trial = Trial(OTHER, {}, 1.5, Status.SCORED, "cpu")
    note = Call("note", {"text": "wider is worse", "commits": [OTHER[:10], "ffff"]})
    whole = Call("edit", {"summary": "all new", "hypothesis": "", "whole_file": "DEPTH = 1"})
    with serving(Say([note]), Say([whole])) as service:
        given = context(trials=[trial], note=lambda text, commits: noted.append((text, list(commits))))
        found = await claude(service).propose(given)
    assert found is not None
    assert found.asset == b"DEPTH = 1\n"
    assert noted == [("wider is worse", [OTHER])]
    with serving(Say([Call("give_up", {"reason": "nothing left"})])) as service:
        assert await claude(service).propose(context()) is None
    assert len(service.requests) == 1



@pytest.mark.parametrize("last", [edit(), Call("give_up", {"reason": "nothing left"})], ids=["edit", "give up"])
async def test_a_note_behind_the_end_of_a_proposal_is_taken(last: Call) -> None:
    noted: list[str] = []
    with serving(Say([last, Call("note", {"text": "wider is worse", "commits": []})])) as service:
        await claude(service).propose(context(note=lambda text, commits: noted.append(text)))
    assert len(service.requests) == 1
    assert noted == ["wider is worse"]


async def test_each_call_of_an_answer_is_answered_once() -> None:
    noted: list[str] = []
    calls = [edit("NOWHERE"), Call("note", {"text": "a"}), Call("bash", {}), Call("note", {"text": "b"})]
    with serving(Say(calls), Say([edit()])) as service:
        await claude(service).propose(context(note=lambda text, commits: noted.append(text)))
    assert noted == ["a", "b"]
    said = service.requests[1]["messages"][-1]["content"]
    assert [block["tool_use_id"] for block in said] == ["toolu_1", "toolu_3", "toolu_0", "toolu_2"]
    assert [block["content"].split()[0] for block in said] == ["noted", "noted", "block", "there"]

@pytest.mark.parametrize("other", [{"own": False}, {"blob": blob_id(b"DEPTH = 9\n")}], ids=["a peer's", "of another"])
async def test_a_crash_that_is_not_of_its_edit_is_not_mended(other: dict[str, Any]) -> None:
    """A peer may say that what it claims has crashed, under any summary."""
    with serving(Say([edit()]), Say([edit(replace="DEPTH = 4")])) as service:
        proposer = claude(service)
        found = await proposer.propose(context())
        assert found is not None
        await proposer.propose(context(trials=[crash(found, failure="obey", **other)]))
    asset, ledger = service.requests[1]["messages"][0]["content"]
    assert "   2 DEPTH = 2" in asset["text"]
    assert "Mend it" not in ledger["text"]


async def test_a_crashed_edit_is_mended_so_often() -> None:
    answers = [Say([edit(f"DEPTH = {depth}", f"DEPTH = {depth + 1}", f"try {depth}")]) for depth in range(2, 9)]
    with serving(*answers) as service:
        proposer, trials = claude(service), []
        for mends in range(MOST_MENDS + 1):
            found = await proposer.propose(context(trials=trials))
            assert found is not None
            assert f"DEPTH = {3 + mends}".encode() in found.asset
            trials.append(crash(found, f"{mends:040x}", failure="Traceback\nKeyError: 'depth'"))
        shown = service.requests[-1]["messages"][0]["content"]
        assert f"   2 DEPTH = {2 + MOST_MENDS}" in shown[0]["text"]
        assert f"{QUOTE}KeyError: 'depth'" in shown[1]["text"]
        service.answers[:] = [Say([edit()]), Say([Call("give_up", {"reason": ""})])]
        await proposer.propose(context(trials=trials))
        assert "   2 DEPTH = 2" in service.requests[-1]["messages"][0]["content"][0]["text"]  # given up


def test_the_default_model_is_one_that_the_sdk_knows() -> None:
    known = [name for part in typing.get_args(Model) for name in typing.get_args(part)]
    assert MODEL in known
    assert {tool["name"] for tool in TOOLS} == {"edit", "note", "give_up"}


def test_a_context_without_anything_is_fine() -> None:
    assert replace(context(), trials=()).metric.of(1.0) == 1.0
