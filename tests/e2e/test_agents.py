"""Nodes whose edits are thought of by a command, and by a model behind a real HTTP service."""

import json
import re
from pathlib import Path

import pytest

from tests.agent.messages_api import Call, Fail, Say, serving
from tests.e2e.kit import Place, Running
from tests.programs.variants import NUMBERS

pytestmark = pytest.mark.slow

#: Another number each time, and a note.
SCRIPT = """
import json, random
asset = json.load(open("numbers.json"))
asset["x"]["value"] = random.random()
json.dump(asset, open("numbers.json", "w"))
open("NOTE.md", "w").write("x moved\\n\\nx was moved, to see what it does")
"""


def model(count: int) -> list[Say]:
    """Answers of a model that tries one value of x after the other."""
    asset = json.loads((NUMBERS / "numbers.json").read_text())
    answers = []
    for number in range(count):
        asset["x"]["value"] = (number + 1) / (count + 1)
        given = {"summary": f"x, try {number}", "hypothesis": "a grid", "whole_file": json.dumps(asset)}
        note = Call("note", {"text": f"x was tried at value {number}", "commits": []})
        answers.append(Say([note, Call("edit", given)], input_tokens=100, output_tokens=10, cache_read=1000))
    return [*answers, Say([Call("give_up", {"reason": "the grid is done"})])]


def value(node: Running, metric: str) -> float:
    found = re.search(rf"^{re.escape(metric)} (\S+)$", node.get("/metrics").decode(), re.M)
    assert found is not None, metric
    return float(found[1])


async def test_a_command_edits_and_a_plain_start_goes_on_with_it(nodes: Place, tmp_path: Path) -> None:
    script = tmp_path / "edit.py"
    script.write_text(SCRIPT)
    command = f"command: python3 {script}"
    node = await nodes.start("home", "--program", str(NUMBERS), "--agent", command).up()
    await node.until(lambda status: value(node, 'waggle_proposals_total{outcome="edit"}') >= 4)
    await node.until(lambda status: status["experiments"]["by_origin"].get("agent", 0) >= 2)
    assert node.stop() == 0
    edits = [row for row in node.ledger() if row["origin"] == "agent"]
    assert edits
    assert {row["summary"] for row in edits} == {"x moved"}
    again = await nodes.start("home", "--max-experiments", "3").up()
    await again.until(lambda status: bool(status["stopped"]))
    latest = next(row for row in again.ledger() if row["origin"] == "agent")
    assert latest["summary"] == "x moved"
    assert "asset" not in again.log.read_text()


async def test_a_model_edits_over_http(nodes: Place) -> None:
    with serving(*model(6)) as service:
        nodes.variables |= {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": service.url}
        node = await nodes.start("home", "--program", str(NUMBERS), "--agent", "claude", "--max-tokens", "1000000").up()
        await node.until(lambda status: value(node, 'waggle_proposer_tokens_total{kind="cache_read"}') >= 6000)
        assert value(node, 'waggle_proposer_tokens_total{kind="output"}') >= 60
        await node.until(lambda status: status["experiments"]["by_origin"].get("agent", 0) >= 4)
        assert node.stop() == 0
    summaries = {row["summary"] for row in node.ledger() if row["origin"] == "agent"}
    tried = {f"x, try {number}" for number in range(6)}
    assert len(summaries & tried) >= 4  # an idea may be dropped where the base has moved meanwhile
    shown = json.dumps(service.requests[-1])
    assert "x was tried at value 0" in shown  # its notes come back to it
    assert "holdout" not in shown


async def test_without_credit_it_goes_on_by_itself(nodes: Place) -> None:
    with serving(Fail(400, "invalid_request_error", "Your credit balance is too low")) as service:
        nodes.variables |= {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": service.url}
        node = await nodes.start("home", "--program", str(NUMBERS), "--agent", "claude").up()
        await node.until(lambda status: status["experiments"]["own"] >= 6)
        assert node.stop() == 0
    assert "credit balance is too low; local search" in node.log.read_text()


def test_without_a_key_it_says_what_to_do(nodes: Place) -> None:
    done = nodes.waggle("start", "--program", str(NUMBERS), "--agent", "claude", "--http", "127.0.0.1:0",
                        "--listen", "/ip4/127.0.0.1/tcp/0", "--home", str(nodes.folder / "home"))  # fmt: skip
    assert done.returncode == 2
    assert "ANTHROPIC_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr
