"""What a home remembers of the agent that its user asked for, and of what that one spent."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.budget import Limits, Spent
from agent.proposer import Context
from node import agents
from node.agents import keep_spent, open_proposer, remembered, spent_before
from node.arguments import parse
from node.config import NO_LIMIT, Agent, Start
from node.journal import IN_MEMORY, Journal
from protocol import codec
from protocol.errors import UserError
from tests.agent.messages_api import Call, Say, serving


def said(line: str) -> Agent:
    """What ``waggle start`` makes of a line."""
    command = parse(["start", *line.split()], {"ANTHROPIC_API_KEY": "sk-test"})
    assert isinstance(command, Start)
    return command.agent


def after(*lines: str) -> Agent:
    """What the last of these starts of one home works with."""
    journal = Journal(IN_MEMORY)
    return [remembered(said(line), journal) for line in lines][-1]


def context() -> Context:
    return Context("Make it better.", "a.py", "0" * 40, b"A = 1\n", "cpu", (), (), lambda asset: False, 1)


LIMITED = "--agent claude --max-tokens 9 --max-tokens-per-hour 8 --max-tokens-per-proposal 7 --model m"


@pytest.mark.parametrize("line", ["", "--agent claude"])
def test_limits_hold_until_others_are_said(line: str) -> None:
    agent = after(LIMITED, line)
    assert (agent.kind, agent.model) == ("claude", "m")
    assert agent.limits == Limits(proposal=7, hour=8, total=9)
    assert after(LIMITED, f"{line} --max-tokens 99").limits == Limits(proposal=7, hour=8, total=99)


def test_limits_hold_over_a_time_with_another_agent() -> None:
    assert after(LIMITED, "--agent local", "").kind == "local"
    assert after(LIMITED, "--agent local", "--agent claude").limits == Limits(proposal=7, hour=8, total=9)


def test_a_command_goes_with_its_kind() -> None:
    assert after("--agent claude", "").command == ""
    journal = Journal(IN_MEMORY)
    remembered(Agent("command", "one", seconds=5.0), journal)
    assert remembered(Agent(), journal) == Agent("command", "one", seconds=5.0)
    assert remembered(Agent("command", "two"), journal) == Agent("command", "two", seconds=5.0)
    assert remembered(Agent("claude"), journal).command == ""


def test_a_limit_is_lifted_for_good() -> None:
    lifted = after(LIMITED, "--max-tokens none --max-tokens-per-proposal none", "")
    assert lifted.limits == Limits(proposal=NO_LIMIT, hour=8, total=NO_LIMIT)


def test_who_wants_no_fallback_need_not_say_so_again() -> None:
    assert after("--agent claude").falls_back
    assert not after("--agent claude --no-fallback", "").falls_back
    assert not after("--agent claude --no-fallback", "--agent claude").falls_back
    assert after("--agent claude --no-fallback", "--fallback", "").falls_back


def test_a_limit_beyond_all_measure_is_none() -> None:
    assert after(f"--agent claude --max-tokens {'9' * 30}", "").limits.total == NO_LIMIT


@pytest.mark.parametrize("text", ["0", "-1", "1e6", "all"])
def test_what_is_no_limit_is_said_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=f"expected a number from 1 on, or none for no limit, got '{text}'"):
        said(f"--max-tokens-per-hour={text}")


@pytest.mark.parametrize(
    ("variables", "base_url", "named"),
    [
        ({}, "api.anthropic.com", "expected ANTHROPIC_BASE_URL to be http"),
        ({}, "http://127.0.0.1:port", "Invalid port"),
        ({"ALL_PROXY": "socks5://127.0.0.1:1"}, "", "socksio"),
        ({"HTTPS_PROXY": "gopher://127.0.0.1:1"}, "", "Unknown scheme for proxy"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, "", "No such file"),
    ],
    ids=["no scheme", "port", "socks", "proxy", "certificates"],
)
def test_where_no_client_can_be_made_it_says_what_to_look_at(
    variables: dict[str, str], base_url: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    agent = Agent("claude", key="sk-test", base_url=base_url)
    with pytest.raises(UserError) as caught:
        open_proposer(agent, Journal(IN_MEMORY), hidden=[], folder=tmp_path, meter=lambda *_: None)
    assert named in str(caught.value)
    assert "ANTHROPIC_BASE_URL" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_may_have_come_with_its_line_end() -> None:
    command = parse(["start"], {"ANTHROPIC_API_KEY": "sk-test\r\n", "ANTHROPIC_BASE_URL": " http://x \n"})
    assert isinstance(command, Start)
    assert (command.agent.key, command.agent.base_url) == ("sk-test", "http://x")


async def test_the_model_that_was_named_is_asked(tmp_path: Path) -> None:
    with serving(Say([Call("give_up", {"reason": "done"})])) as service:
        agent = replace(said("--agent claude --no-fallback --model my-model"), base_url=service.url)
        await open_proposer(
            agent, Journal(IN_MEMORY), hidden=[], folder=tmp_path, meter=lambda *_: None
        ).propose(context())
    assert [request["model"] for request in service.requests] == ["my-model"]


def test_what_a_command_may_see_is_remembered() -> None:
    assert not after("--agent command:true").sees_data
    assert after("--agent command:true --agent-sees-data", "").sees_data
    assert after("--agent command:true --agent-sees-data", "--no-agent-sees-data", "").sees_data is False


# what was spent

EDIT = Call("edit", {"summary": "more", "hypothesis": "", "whole_file": "A = 2"})


@pytest.mark.parametrize("limit", ["--max-tokens", "--max-tokens-per-hour"])
async def test_a_limit_outlives_a_restart(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each life opens the home's journal anew; the second asks for nothing, and an hour later again where it may."""
    now = [1_800_000_000.0]
    monkeypatch.setattr(agents.time, "time", lambda: now[0])
    path = tmp_path / "journal.db"

    async def live() -> None:
        journal = Journal(path)
        agent = replace(said(f"--agent claude --no-fallback {limit} 30000"), base_url=service.url)
        proposer = open_proposer(agent, journal, hidden=[], folder=tmp_path, meter=lambda *_: None)
        await proposer.propose(context())
        journal.close()

    with serving(Say([EDIT], input_tokens=20_000)) as service:
        await live()
        await live()
        assert len(service.requests) == 1
        now[0] += 3660.0
        await live()
        assert len(service.requests) == (2 if limit == "--max-tokens-per-hour" else 1)


def test_what_was_spent_is_kept_and_an_older_home_is_read() -> None:
    journal = Journal(IN_MEMORY)
    assert spent_before(journal) == Spent()
    journal.set_meta("tokens", codec.encode(7))
    assert spent_before(journal) == Spent(7)
    keep_spent(journal, Spent(9, {30_000_000: 5, 30_000_001: 4}))
    assert spent_before(journal) == Spent(9, {30_000_000: 5, 30_000_001: 4})


DAMAGED = [b"", b"\xc1", codec.encode("nine"), codec.encode([[1]]), codec.encode([1]), codec.encode(None)]


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_count_loses_nothing_else(damaged: bytes, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(IN_MEMORY)
    keep_spent(journal, Spent(9, {1: 5}))
    journal.set_meta("tokens_by_minute", damaged)
    assert spent_before(journal) == Spent(9)
    journal.set_meta("tokens", damaged)
    caplog.clear()
    keep_spent(journal, replace(spent_before(journal), minutes={1: 5}))
    (line, _) = caplog.messages
    assert line == "what this home remembers as tokens can't be read, and begins anew: say your limits again"
    caplog.clear()
    assert spent_before(journal) == Spent(0, {1: 5})
    assert caplog.messages == []


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_damaged_agent_is_local_search(damaged: bytes, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(IN_MEMORY)
    journal.set_meta("agent", damaged)
    assert remembered(Agent(), journal).kind == "local"
    assert len(caplog.messages) == 1


def test_what_a_later_version_said_more_is_let_be() -> None:
    journal = Journal(IN_MEMORY)
    journal.set_meta("agent", codec.encode({"kind": "claude", "tokens": 5, "mood": "bright"}))
    assert remembered(Agent(), journal) == Agent("claude", tokens=5)
