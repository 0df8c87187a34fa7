"""What a night came to, in words."""

import re
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from gossip.memory import MemoryNetwork
from node.summary import summarize
from tests.node.nodes import NUMBERS, Built, build
from tests.node.test_report import COURSE, row
from trainer.program import Program, Stop

EVIL = "a\tb\nc\x1b[2J\u202e"


async def ended(*edits: dict[str, float | str], stop: Stop) -> Built:
    program = Program(replace(NUMBERS.spec, stop=stop), NUMBERS.files)
    one = build(MemoryNetwork(seed=1), 1, *edits, program=program)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.node.run)
        with trio.fail_after(3600):
            await one.node.finished.wait()
        nursery.cancel_scope.cancel()
    return one


def section(text: str, title: str) -> list[list[str]]:
    """The rows of a table under a title, by what stands between two blanks."""
    below = text.split(f"\n{title}\n")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.split("  ") if cell] for line in below.splitlines() if line.startswith("  ")]


async def test_it_says_why_it_ended_how_far_it_came_by_which_steps_and_what_that_cost(
    autojump_clock: MockClock
) -> None:
    one = await ended({"x": 0.7}, {"y": 0.2}, {"mode": "better"}, stop=Stop(hours=0.25))
    text = summarize(one.snapshot(), one.node.ledger, one.node.rows())
    assert "Ended: 0.25 hours are over." in text
    assert "less is better" in text
    bests = {line[0]: line for line in section(text, "The best")}
    assert set(bests) >= {"as it began", "accepted"}
    assert " ± " in bests["accepted"][1]
    assert bests["accepted"][2].startswith("+")
    head, *steps = section(text, "The steps")
    assert head == ["commit", "metric", "effect", "standing"]
    assert [line[-1] for line in steps] == ["set {'x': 0.7}", "set {'y': 0.2}", "set {'mode': 'better'}"]
    assert all(line[2].startswith("+") for line in steps)
    counts = {line[0]: line[-1] for line in section(text, "Experiments, of all nodes")[1:]}
    own = one.snapshot().own_experiments
    assert sum(int(count) for count in counts.values()) == own > 6
    assert counts["agent"] == "3"
    arm = section(text, "Candidates of this node")[1]
    assert [*arm[:4], arm[-1]] == ["agent", "3", "3", "1", "33%"]  # two were searched from before their replications
    cost = {line[0]: line[1] for line in section(text, "What it cost")[1:]}
    assert cost == {"all nodes": str(own), "this node": str(own)}
    assert "Duplicates: 0 of 3 new edits (0%)." in text
    assert re.search(r"(?m)^Idle: \d+\.\d% of the lanes' time \(proposer \d+\.\d%\)$", text)


async def test_why_it_ended_is_remembered_and_forgotten_where_it_goes_on(autojump_clock: MockClock) -> None:
    one = await ended(stop=Stop(experiments=2))
    assert one.parts.journal.meta("stopped") == b"2 experiments done"
    again = build(MemoryNetwork(seed=1), 1, journal=one.parts.journal)
    async with trio.open_nursery() as nursery:
        await nursery.start(again.node.run)
        await trio.sleep(0.1)
        assert again.parts.journal.meta("stopped") == b""
        nursery.cancel_scope.cancel()


async def test_before_anything_was_run(autojump_clock: MockClock) -> None:
    one = build(MemoryNetwork(seed=1), 1)
    text = summarize(one.snapshot(), one.node.ledger, [])
    assert "Not ended" in text
    assert "The steps" not in text


async def test_no_word_of_a_peer_leaves_its_line(autojump_clock: MockClock) -> None:
    one = await ended(stop=Stop(experiments=2))
    seen = replace(one.snapshot(), program=EVIL, stopped=EVIL, metric_name=EVIL, unit=EVIL)
    text = summarize(seen, one.node.ledger, [*COURSE, row(99, summary=EVIL)])
    assert all(line.isprintable() for line in text.splitlines())
    assert text.count("a b c") == 4


@pytest.mark.parametrize(("goal", "sign"), [("minimize", "+"), ("maximize", "-")])
async def test_better_is_as_the_program_counts(autojump_clock: MockClock, goal: str, sign: str) -> None:
    one = await ended({"x": 0.7}, stop=Stop(hours=0.25))
    text = summarize(replace(one.snapshot(), goal=goal), one.node.ledger, one.node.rows())
    assert section(text, "The steps")[1][2].startswith(sign)
