"""Every command in README.md and docs/ is one that there is; those of README that look at a home are run on one."""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agent.tunables import read_tunables
from node.arguments import parse
from protocol.diffs import apply_diff
from trainer.program import load_program

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PATH = "/usr/bin:/bin"
#: What stands in README where a reader puts his own.
PEER = "12D3KooWLeduQ2Dwdk7WDLZWo3BXoEdArcrGdgxwrrSChheuVNtv"
DOCS = sorted((ROOT / "docs").glob("*.md"))
LOOKS = ("status", "log", "best", "report", "run")
#: What goes on until Ctrl-C: tests/e2e/test_operator.py follows them.
ENDLESS = ("--watch", "--follow")


def commands(first: str, text: str = README) -> list[str]:
    """The lines of indented blocks that begin with ``first``, and the quoted commands in the text."""
    lines = re.findall(rf"(?m)^    ({first} .*)$", text)
    quoted = re.findall(rf"`({first} [^`]*)`", text)
    return [line.partition("#")[0].strip() for line in (*lines, *quoted)]


def words(command: str, folder: Path) -> list[str]:
    replaced = command.replace("12D3KooW…", PEER).replace("ADDR", f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}")
    return shlex.split(replaced.replace("my.py", str(folder / "my.json")))[1:]


@pytest.mark.parametrize("command", commands("waggle", "\n".join([README, *(page.read_text() for page in DOCS)])))
def test_each_command_is_understood(command: str, tmp_path: Path) -> None:
    arguments = words(command, tmp_path)
    if "--help" in arguments:
        with pytest.raises(SystemExit):
            parse(arguments)
    else:
        assert parse(arguments, {"HOME": str(tmp_path)})


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_what_pages_point_to_is_there(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)#]+?)\)", text)
    paths = re.findall(r"`((?:deploy|tests|trainer|docs)/[\w./-]+)`", text)
    assert [one for one in links if not one.startswith("http") and not (page.parent / one).exists()] == []
    assert [one for one in paths if not (ROOT / one).exists()] == []


def test_each_mend_of_libp2p_can_be_reported() -> None:
    page = (ROOT / "docs" / "upstream.md").read_text()
    source = "\n".join(path.read_text() for path in (ROOT / "gossip").glob("*.py"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    defined = [one for one in ast.walk(ast.parse(source)) if isinstance(one, kinds)]
    mends = [one.name for one in defined if "Upstream" in (ast.get_docstring(one) or "")]
    assert len(mends) > 10
    assert [name for name in mends if f"`{name}`" not in page] == []
    folders = [ROOT / "tests" / "gossip", ROOT / "tests" / "hostile"]
    tests = "".join(path.read_text() for folder in folders for path in folder.glob("test_*.py"))
    assert [name for name in re.findall(r"`(test_\w+)`", page) if f"def {name}" not in tests] == []


@pytest.mark.parametrize("command", commands("make"))
def test_each_target_exists(command: str) -> None:
    target = command.split()[1]
    assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text())


def test_the_picture_is_there() -> None:
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).read_bytes()[:4] == b"\x89PNG"


def test_what_looks_at_a_home_does(tmp_path: Path) -> None:
    numbers = ROOT / "tests" / "programs" / "numbers"
    (tmp_path / "my.json").write_bytes(next(numbers.glob("*.json")).read_bytes())
    waggle(tmp_path, "start", "--program", str(numbers), "--no-listen", "--http", "127.0.0.1:0",
           "--max-experiments", "3", "--exit-when-done")  # fmt: skip
    run = [one for one in commands("waggle") if one.split()[1] in LOOKS and not one.endswith(ENDLESS)]
    assert len(run) > len(LOOKS)
    for command in run:
        assert waggle(tmp_path, *words(command, tmp_path)) or "--diff" in command
    assert (tmp_path / "progress.png").exists()


def test_a_back_up_is_restored(tmp_path: Path) -> None:
    """As docs/operations.md says, word by word."""
    page = (ROOT / "docs" / "operations.md").read_text()
    back_up = [line for line in re.findall(r"(?m)^    (.*)$", page) if re.search(r"-copy|restored", line)]
    *shell, start = back_up
    assert (len(shell), start) == (3, "waggle start --home ./restored")
    home = tmp_path / ".local" / "share" / "waggledance"
    few = ("--no-listen", "--http", "127.0.0.1:0", "--exit-when-done")
    waggle(tmp_path, "start", "--program", str(ROOT / "tests" / "programs" / "numbers"), *few, "--max-experiments", "3",
           WAGGLE_HOME=str(home))  # fmt: skip
    for command in shell:
        subprocess.run(["bash", "-ec", command], cwd=tmp_path, env={"HOME": str(tmp_path), "PATH": PATH}, check=True)
    waggle(tmp_path, *words(start, tmp_path), *few, "--max-experiments", "0")
    restored = tmp_path / "restored"
    for look in ("status", "log"):
        asked = [json.loads(waggle(tmp_path, look, "--json", "--home", str(one))) for one in (home, restored)]
        if look == "status":  # which each start says anew
            assert [one.pop("stopped") for one in asked] == ["3 experiments done", "0 experiments done"]
        assert asked[0] == asked[1]
    assert len(asked[1]) == 3
    lineages = [
        subprocess.check_output(["git", "-C", str(one / "lineage"), "rev-parse", "best"]) for one in (home, restored)
    ]
    assert lineages[0] == lineages[1]


def test_the_program_md_of_the_docs_is_right(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "programs.md").read_text().partition("## What program.md says")[2].partition("\nAll but")[0]
    front = "\n".join(line.removeprefix("    ") for line in page.splitlines()).replace("12D3KooW…", PEER)
    waggle(tmp_path, "program", "new", "./mine", "--from", "lm")
    manifest = tmp_path / "mine" / "program.md"
    prose = manifest.read_text().split("+++\n", 2)[2]
    data = re.search(r"(?ms)^\[data\]\n.*?(?=^\[|^\+\+\+)", manifest.read_text())
    manifest.write_text(f"+++\n{front}\n{data[0] if data else ''}+++\n{prose}")
    said = json.loads(waggle(tmp_path, "program", "check", "./mine", "--json"))
    assert (said["name"], said["founder"], said["budget_seconds"]) == ("mine", PEER, 300)


def waggle(folder: Path, *arguments: str, **variables: str) -> str:
    environment = {"WAGGLE_HOME": str(folder / "home"), "WAGGLE_CACHE": str(folder / "cache"), "PATH": PATH}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "node.cli", *arguments], cwd=folder, capture_output=True, text=True, timeout=120,
        env={**environment, **variables, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_written_by_hand_can_be_made_again() -> None:
    diff = (ROOT / "docs/runs/lm-two-hours/by-hand.diff").read_bytes()
    page = (ROOT / "docs/runs/lm-two-hours/README.md").read_text()
    found = read_tunables(apply_diff(load_program("lm").asset, diff, "train.py"), "train.py")
    for name, value in {"NORM": "rms", "LEARNING_RATE": 0.004, "EMBEDDING_RATE": 20, "HEAD_SIZE": 64}.items():
        assert found[name].value == value
        assert f"`{name}` {value}" in page
