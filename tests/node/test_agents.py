"""What a home remembers of the agent that its user asked for, and of what that one spent."""

import pytest

from agent.budget import Limits
from node.agents import remembered
from node.arguments import parse
from node.config import NO_LIMIT, Agent, Start
from node.journal import IN_MEMORY, Journal
from protocol.errors import UserError


def said(line: str) -> Agent:
    """What ``waggle start`` makes of a line."""
    command = parse(["start", *line.split()], {"ANTHROPIC_API_KEY": "sk-test"})
    assert isinstance(command, Start)
    return command.agent


def after(*lines: str) -> Agent:
    """What the last of these starts of one home works with."""
    journal = Journal(IN_MEMORY)
    return [remembered(said(line), journal) for line in lines][-1]


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


def test_a_limit_beyond_all_measure_is_none() -> None:
    assert after(f"--agent claude --max-tokens {'9' * 30}", "").limits.total == NO_LIMIT


@pytest.mark.parametrize("text", ["0", "-1", "1e6", "all"])
def test_what_is_no_limit_is_said_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=f"expected a number from 1 on, or none for no limit, got '{text}'"):
        said(f"--max-tokens-per-hour={text}")
