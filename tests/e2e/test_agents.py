"""Nodes whose edits are thought of by a command, and by a model behind a real HTTP service."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.agent.messages_api import Call, Fail, Say, serving
from tests.e2e.kit import COMMAND, Place, Running
from tests.programs.variants import NUMBERS, write_numbers

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


#: Reads all that a command could find of the validation data and the journal, and edits.
SPY = """
import sys
from pathlib import Path
sys.path[:0] = ["."]
for folder in map(Path, {folders!r}):
    for path in [folder, *folder.rglob("*")]:
        if path.is_file():
            open({leak!r}, "ab").write(path.read_bytes())
open({leak!r}, "ab").write(b"looked")
"""


async def test_a_command_sees_no_validation_data(nodes: Place, tmp_path: Path) -> None:
    """Neither in the cache nor in the folder that the program came from, also after a plain start."""
    if shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap")
    secrets = {"data/validation/a.txt": "s3cret", "data/holdout/a.txt": "s3cret", "data/train/a.txt": "s3cret"}
    program, leak, script = write_numbers(tmp_path / "program", files=secrets), tmp_path / "leak", tmp_path / "spy.py"
    folders = [str(tmp_path / "cache"), str(program), str(tmp_path / "home" / "journal.db")]
    script.write_text(SPY.format(folders=folders, leak=str(leak)) + SCRIPT)
    node = await nodes.start("home", "--program", str(program), "--agent", f"command: python3 {script}").up()
    assert list((tmp_path / "cache").rglob("validation/a.txt"))
    for running in (node, None):
        again = running or await nodes.start("home").up()
        await again.until(lambda status: leak.exists() and b"looked" in leak.read_bytes())
        assert again.stop() == 0
        assert b"numbers" in leak.read_bytes()  # program.md may be read
        assert b"s3cret" not in leak.read_bytes()
        assert b"SQLite" not in leak.read_bytes()
        leak.unlink()


def test_where_bubblewrap_does_not_work_a_command_is_refused(nodes: Place, tmp_path: Path) -> None:
    """As in most containers: no user namespaces, and no privileges."""
    if shutil.which("bwrap") is None or shutil.which("setpriv") is None:
        pytest.skip("needs bubblewrap and setpriv")
    start = [*COMMAND, "start", "--program", str(NUMBERS), "--agent", "command: true", "--home", str(tmp_path / "home"),
             "--http", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"]  # fmt: skip
    inside = (
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs"
        f" {shlex.join(start)}"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", inside], capture_output=True, text=True, timeout=60,
        env=nodes.environment(), cwd=nodes.folder,
    )  # fmt: skip
    if "max_user_namespaces" in done.stderr or done.stderr.startswith("unshare"):
        pytest.skip(f"no user namespaces to take away: {done.stderr}")
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("waggle: bubblewrap does not work here (bwrap: ")
    assert last.endswith("or take the risk with --agent-sees-data")


async def test_a_model_edits_over_http(nodes: Place) -> None:
    with serving(*model(6)) as service:
        nodes.variables |= {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": service.url}
        node = await nodes.start("home", "--program", str(NUMBERS), "--agent", "claude", "--max-tokens", "1000000").up()
        for kind, least in (("cache_read", 6000), ("output", 60)):  # the latter are counted as an answer ends
            name = f'waggle_proposer_tokens_total{{kind="{kind}"}}'
            await node.until(lambda _, name=name, least=least: value(node, name) >= least)
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
