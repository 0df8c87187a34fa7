"""What the operator of a home does with its node at the terminal."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from node.home import Home
from node.journal import Journal
from tests.e2e.kit import END_SECONDS, Place, Running, resting
from tests.programs.variants import write_numbers
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def test_paused_is_paused_also_after_a_restart(nodes: Place, tmp_path: Path) -> None:
    program = write_numbers(tmp_path / "program", seconds=1)
    node = await nodes.start("home", "--program", str(program), "--no-mdns").up()
    await node.until(lambda status: status["experiments"]["own"] > 3)
    home = ("--home", str(node.home))
    assert nodes.waggle("pause", *home).stdout.startswith("paused")
    done = (await node.until(resting))["experiments"]["own"]
    assert "paused" in nodes.waggle("status", *home).stdout
    assert node.stop() == 0
    assert "its next start is paused" in nodes.waggle("pause", *home).stdout
    again = await nodes.start("home", "--no-mdns").up()
    await until(lambda: "until waggle resume" in again.log.read_text(), END_SECONDS)
    assert (await again.until(lambda status: status["records"] > 0))["experiments"]["own"] == done
    assert json.loads(nodes.waggle("resume", "--json", *home).stdout) == {
        "done": "resume", "commit": "", "running": True
    }  # fmt: skip
    await again.until(lambda status: status["experiments"]["own"] > done)


async def test_a_founder_approves_and_vetoes_and_the_swarm_follows(nodes: Place, tmp_path: Path) -> None:
    founder = json.loads(nodes.waggle("identity", "--json", "--home", str(tmp_path / "first")).stdout)["peer_id"]
    review = f'founder = "{founder}"\nreview = "required"\n'
    program = write_numbers(tmp_path / "program", seconds=1, extra=review)
    first = await nodes.start("first", "--program", str(program), "--no-mdns").up()
    second = await nodes.start("second", first.address, "--yes", "--no-mdns", command="join").up()
    waiting = (await first.until(lambda status: len(status["awaiting"]) > 0))["awaiting"][0]["commit"]
    assert first.status()["incumbent"]["commit"] != waiting
    assert second.status()["experiments"]["accepted"] == 0

    refused = nodes.waggle("approve", waiting[:12], "--home", str(second.home))
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"waggle: only its founder, {founder}, judges")
    assert nodes.waggle("approve", waiting[:12], "--home", str(first.home)).returncode == 0
    for node in (first, second):
        await node.until(lambda status: status["experiments"]["accepted"] == 1)
    assert nodes.waggle("veto", waiting[:12], "--home", str(first.home)).returncode == 0
    for node in (first, second):
        await node.until(lambda status: status["experiments"]["accepted"] == 0)

    assert first.stop() == 0
    other = (await second.until(lambda status: len(status["awaiting"]) > 0))["awaiting"][0]["commit"]
    unknown = nodes.waggle("approve", "ffffffff", "--home", str(first.home))
    assert "no experiment of a commit" in unknown.stderr
    assert other != waiting


async def test_who_is_there(nodes: Place, tmp_path: Path) -> None:
    program = write_numbers(tmp_path / "program", seconds=1)
    first = await nodes.start("first", "--program", str(program), "--no-mdns").up()
    page = first.said("http")  # in place of its address
    second = await nodes.start("second", page, "--yes", "--no-mdns", command="join").up()
    home = ("--home", str(second.home))

    def seen() -> dict[str, bool]:
        return {one["peer"]: one["connected"] for one in json.loads(nodes.waggle("peers", "--json", *home).stdout)}

    await until(lambda: seen() == {first.said("peer_id"): True, second.said("peer_id"): False}, 30)
    assert first.address in nodes.waggle("peers", *home).stdout
    assert second.stop() == 0
    with closing(Journal(Home(second.home).journal)) as journal:
        journal.remember("somebody", "/ip4/192.0.2.7/tcp/4001/p2p/somebody", 1)
    assert "/ip4/192.0.2.7/tcp/4001/p2p/somebody   remembered" in nodes.waggle("peers", *home).stdout


async def test_what_comes_is_followed_through_a_pipe(nodes: Place, tmp_path: Path) -> None:
    program = write_numbers(tmp_path / "program", seconds=1)
    node = await nodes.start("home", "--program", str(program), "--no-mdns").up()
    await node.until(lambda status: status["experiments"]["own"] > 3)
    for arguments in (("log", "--follow", "--json", "-n", "2"), ("status", "--watch", "--json")):
        lines = follow(nodes, node, *arguments, lines=6)
        assert all(isinstance(json.loads(line), dict) for line in lines)
    rows = follow(nodes, node, "log", "-f", "-n", "2", lines=6)
    assert rows[0].startswith("ago")
    assert sum(row.startswith("ago") for row in rows) == 1


def follow(nodes: Place, node: Running, *arguments: str, lines: int) -> list[str]:
    """So many lines of a command that never ends by itself; it must end cleanly when nobody reads on."""
    command = [sys.executable, "-m", "node.cli", *arguments, "--home", str(node.home)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=nodes.environment(), cwd=nodes.folder
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found = [process.stdout.readline() for _ in range(lines)]
        process.stdout.close()
        assert process.wait(END_SECONDS) == 0
        assert process.stderr.read() == ""
    return found


async def test_the_best_goes_into_a_folder_that_needs_no_waggle(nodes: Place, tmp_path: Path) -> None:
    program = write_numbers(tmp_path / "program", seconds=1)
    node = await nodes.start("home", "--program", str(program), "--no-mdns").up()
    await node.until(lambda status: status["experiments"]["accepted"] > 1)
    assert node.stop() == 0
    folder, home = tmp_path / "best", ("--home", str(node.home))
    done = nodes.waggle("export", str(folder), *home)
    assert done.returncode == 0, done.stderr
    again = nodes.waggle("export", str(tmp_path / "again"), "--json", *home)
    assert json.loads(again.stdout)["run"] == "standalone.py"
    assert "is not empty" in nodes.waggle("export", str(folder), *home).stderr
    best = json.loads(nodes.waggle("best", "--json", *home).stdout)
    said = json.loads((folder / "candidate.json").read_text())
    assert (said["commit"], said["value"]) == (best["commit"], best["metric"])
    ran = run(folder, sys.executable, "-I", "standalone.py")
    assert ran.stdout.startswith("distance ")
    assert f"`{best['commit']}`" in (folder / "README.md").read_text()
    asset = (folder / "numbers.json").read_bytes()
    assert nodes.waggle("best", "--show", *home).stdout.encode() == asset

    run(program, "git", "init", "-q", "-b", "main")
    run(program, "git", "add", ".")
    run(program, "git", *ME, "commit", "-qm", "as its author wrote it")
    run(program, "git", *ME, "am", "-q", *map(str, sorted((folder / "patches").iterdir())))
    assert (program / "numbers.json").read_bytes() == asset
    log = run(program, "git", "log", "--format=%s").stdout
    assert len(log.splitlines()) == len(best["lineage"])


ME = ("-c", "user.name=me", "-c", "user.email=me@example.org")


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def test_bash_completes_commands_and_options(nodes: Place) -> None:
    script = nodes.waggle("completion", "bash").stdout
    ask = (
        f"{script}\nCOMP_WORDS=(waggle {{words}}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        "_shtab_waggle; echo ${{COMPREPLY[@]}}".replace("{{", "{").replace("}}", "}")
    )
    for words, expected in {"pa": "pause", "log --fol": "--follow"}.items():
        done = subprocess.run(["bash", "-c", ask.replace("{words}", words)], capture_output=True, text=True)
        assert expected in done.stdout.split(), (words, done.stdout, done.stderr)
