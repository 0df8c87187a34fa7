"""Any program as a proposer: what it finds, what is taken of it, and what is left of it."""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from agent import command as module
from agent.budget import estimate
from agent.command import Command
from agent.digest import QUOTE
from agent.proposer import BEING_RUN, Attempt, Context, Insight, Metric, Trial
from agent.tunables import write_tunables
from protocol.diffs import MAX_ASSET_BYTES
from protocol.errors import UserError
from protocol.statements import Status
from tests.waiting import until
from trainer.hide import hiding, unhidden
from trainer.program import load_program
from trainer.workspace import temporary

ASSET = b"DEPTH = 2\n"
BASE, OTHER = "ba5e" * 10, "0dd0" * 10
SECONDS = 20.0
#: More folders in each other than a function may call itself, as ``shutil.rmtree`` of Python 3.11 does.
DEEP = sys.getrecursionlimit()


def context(*, taken: Callable[[bytes], bool] = lambda asset: False, notes: list[str] | None = None) -> Context:
    trials = [
        Trial(BASE, {}, 1.25, Status.SCORED, "cpu", summary="genesis", standing="accepted"),
        Trial(OTHER, {}, 1.5, Status.SCORED, "cpu", parent=BASE, author="ada", summary="a\twider\nmodel", gain=-0.25),
    ]
    heard = [] if notes is None else notes
    return Context(
        "Make it better.", "train.py", BASE, ASSET, "cpu", trials, [Attempt("", {"DEPTH": 5})], taken, 1,
        metric=Metric("val_bpb", "bits/byte", sigma=0.05), lineage=[BASE],
        insights=[Insight("bob", "go deep", [OTHER])],
        fixed={"runner.py": b"run = 1\n"}, note=lambda text, commits: heard.append(f"{text} {commits}"),
    )  # fmt: skip


def proposer(script: str, scratch: Path, seconds: float = SECONDS) -> Command:
    return Command(script, unhidden, partial(temporary, scratch), seconds)


async def test_a_script_edits_the_asset(tmp_path: Path) -> None:
    notes: list[str] = []
    script = "sed -i s/2/3/ train.py; printf '# Deeper\\n\\nDepth helps: 0dd00dd00d.\\n' > NOTE.md; echo done"
    edit = await proposer(script, tmp_path).propose(context(notes=notes))
    assert edit is not None
    assert edit.asset == b"DEPTH = 3\n"
    assert edit.summary == "Deeper"
    assert notes == [f"Depth helps: 0dd00dd00d. {[OTHER]}"]
    assert not os.listdir(tmp_path)


async def test_what_was_learnt_is_told_where_nothing_is_proposed(tmp_path: Path) -> None:
    notes: list[str] = []
    script = "printf 'Nothing\\n\\nDepth hurts: 0dd00dd00d.\\n' > NOTE.md"
    assert await proposer(script, tmp_path).propose(context(notes=notes)) is None
    assert notes == [f"Depth hurts: 0dd00dd00d. {[OTHER]}"]


async def test_the_documented_script_does_what_it_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "proposers.md").read_text()
    lines = page.partition("    #!/bin/sh\n")[2].partition("\n\n")[0].splitlines()
    script = tmp_path / "my-agent.sh"
    script.write_text("\n".join(["#!/bin/sh", *(line.removeprefix("    ") for line in lines), ""]))
    script.chmod(0o755)
    (tmp_path / "scratch").mkdir()
    asset = load_program("lm").asset
    given = replace(context(), asset=asset)
    edit = await proposer(str(script), tmp_path / "scratch").propose(given)
    assert edit is not None
    assert edit.asset == write_tunables(asset, "train.py", {"LEARNING_RATE": 5e-4})
    assert edit.summary == "half the learning rate"


async def test_what_it_finds(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (tmp_path / "scratch").mkdir()
    await proposer(f"cp -r . {shlex.quote(str(kept))}; echo >> train.py", tmp_path / "scratch").propose(context())
    found = {path.name: path.read_text() for path in kept.iterdir()}
    assert set(found) == {"program.md", "train.py", "results.tsv", "LEDGER.md", "runner.py"}
    assert found["program.md"] == "Make it better."
    head, genesis, wider = [line.split("\t") for line in found["results.tsv"].splitlines()]
    assert head[:4] == ["commit", "val_bpb", "status", "description"]
    assert genesis[:4] == [BASE[:10], "1.25", "scored", "genesis"]
    assert wider[3] == "a wider model"
    assert f"{QUOTE}go deep" in found["LEDGER.md"]
    assert "-5.0 sigma" in found["LEDGER.md"]
    assert f"{QUOTE}DEPTH=5" in found["LEDGER.md"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("true", "left train.py as it was"),
        ("echo oops; exit 3", "status 3: oops"),
        ("rm train.py", "no plain file"),
        ("ln -sf /etc/passwd train.py", "no plain file"),
        ("rm train.py; mkfifo train.py", "no plain file"),
        ("rm train.py; mkdir train.py", "no plain file"),
        (f"head -c {MAX_ASSET_BYTES + 1} /dev/zero > train.py", "no plain file"),
        ("sed -i s/2/7/ train.py", "an experiment already"),
    ],
)
async def test_what_is_no_edit(script: str, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = context(taken=lambda asset: b"7" in asset)
    assert await proposer(script, tmp_path).propose(given) is None
    assert why in caplog.text
    assert not os.listdir(tmp_path)


async def test_what_repeats_an_experiment_is_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def repeats(asset: bytes) -> str:
        return BEING_RUN

    given = replace(context(), repeats=repeats)
    assert await proposer("sed -i s/2/7/ train.py", tmp_path).propose(given) is None
    assert "this edit is being run" in caplog.text


async def test_only_the_asset_is_taken(tmp_path: Path) -> None:
    edit = await proposer("echo 'run = 2' > runner.py; echo >> train.py; touch more.py", tmp_path).propose(context())
    assert edit is not None
    assert edit.asset == ASSET + b"\n"
    assert edit.summary == "an edit by a command: 1 lines added, 0 removed"


async def test_it_is_ended_with_all_that_it_started(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mark = tmp_path / "pids"
    script = f"sleep 1000 & echo $! > {mark}; echo $$ >> {mark}; wait"
    begun = time.monotonic()
    (tmp_path / "scratch").mkdir()
    assert await proposer(script, tmp_path / "scratch", 5.0).propose(context()) is None
    assert time.monotonic() - begun < SECONDS
    assert "more than 5 seconds" in caplog.text
    await until(lambda: not any(map(_runs, mark.read_text().split())), SECONDS)  # what is killed takes a moment to end


async def test_what_it_leaves_running_holds_no_edit_back(tmp_path: Path) -> None:
    """A server in the background keeps the output open."""
    mark = tmp_path / "pid"
    (tmp_path / "scratch").mkdir()
    script = f"sed -i s/2/3/ train.py; sleep 1000 & echo $! > {mark}"
    with trio.fail_after(SECONDS):
        edit = await proposer(script, tmp_path / "scratch", 1000.0).propose(context())
    assert edit is not None
    assert edit.asset == b"DEPTH = 3\n"
    await until(lambda: not _runs(mark.read_text().strip()), SECONDS)


async def test_what_it_printed_last_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it left running prints when the command has been waited for, as the end of a pipe may come late."""
    monkeypatch.setattr(module, "REST_SECONDS", SECONDS)
    late = "while kill -0 $$ 2>/dev/null; do sleep 0.01; done; sleep 0.2; echo the end"
    assert await proposer(f"seq 100000; ({late}) & exit 3", tmp_path).propose(context()) is None
    assert "99999 100000 the end" in caplog.text


async def test_a_child_that_writes_on_into_its_folder_costs_no_edit(tmp_path: Path) -> None:
    """In a session of its own it outlives the command, where no bubblewrap ends it; so the folder can't be removed."""
    mark = tmp_path / "pid"
    (tmp_path / "scratch").mkdir()
    writing = "n=0; while [ $n -lt 1000000 ]; do n=$((n + 1)); : > file$n; done"
    script = (
        f"sed -i s/2/3/ train.py; setsid sh -c 'echo $$ > {mark}; {writing}' &"
        " while [ ! -e file100 ]; do sleep 0.01; done"
    )
    try:
        edit = await proposer(script, tmp_path / "scratch").propose(context())
    finally:
        with contextlib.suppress(ProcessLookupError):  # its folder may be gone before it
            os.kill(int(mark.read_text()), signal.SIGKILL)
    assert edit is not None
    assert edit.asset == b"DEPTH = 3\n"


async def test_folders_that_it_locked_are_removed(tmp_path: Path) -> None:
    """And so deep that Python's own removal gives up: root may write to what is locked, but goes no deeper."""
    script = f"sed -i s/2/3/ train.py; mkdir -p cache/{'d/' * DEEP}; touch cache/file; chmod -R a-w cache"
    assert await proposer(script, tmp_path).propose(context()) is not None
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("script", "why"),
    [("true " + "x" * (1 << 20), "Argument list too long"), ("true", "File exists")],
    ids=["a command line that is too long", "no room for a folder"],
)
async def test_what_the_machine_refuses_is_no_edit(
    script: str, why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scratch = tmp_path / "scratch"
    if why == "File exists":
        scratch.touch()
    assert await proposer(script, scratch).propose(context()) is None
    assert "it can't be run" in caplog.text
    assert why in caplog.text


async def test_cancelled_it_leaves_nothing_running(tmp_path: Path) -> None:
    mark = tmp_path / "pids"
    (tmp_path / "scratch").mkdir()
    async with trio.open_nursery() as nursery:
        script = f"echo $$ > {mark}.new; mv {mark}.new {mark}; sleep 1000"
        nursery.start_soon(proposer(script, tmp_path / "scratch").propose, context())
        await until(mark.exists, SECONDS)
        nursery.cancel_scope.cancel()
    await until(lambda: not any(map(_runs, mark.read_text().split())), SECONDS)  # what is killed takes a moment to end
    assert not os.listdir(tmp_path / "scratch")


async def test_one_that_fails_again_and_again_is_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.1)
    failing = proposer("exit 1", tmp_path)
    for _ in range(module.FAILURES):
        assert await failing.propose(context()) is None
    assert "asked again in 0.1 s" in caplog.text


async def test_folders_are_hidden_from_it(tmp_path: Path) -> None:
    """Validation data and journals lie in the cache and the home; the worktree lies in the home too."""
    if sys.platform != "linux" or shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap")
    cache, home = tmp_path / "cache", tmp_path / "home"
    for folder in (cache, home / "thinking"):
        folder.mkdir(parents=True)
    (cache / "validation").write_text("secret")
    (home / "journal.db").write_text("secret")
    (tmp_path / "elsewhere").write_text("open")
    script = (
        f"cat {cache}/* {home}/journal.db >> train.py 2>/dev/null; cat {tmp_path}/elsewhere >> train.py;"
        f" ls {home} >> train.py; grep -l validation /proc/*/root{cache}/* >> train.py 2>/dev/null; true"
    )
    hide = hiding([cache, home], home / "thinking")
    edit = await Command(script, hide, partial(temporary, home / "thinking"), SECONDS).propose(context())
    assert edit is not None
    assert edit.asset == ASSET + b"openthinking\n"


async def test_a_command_that_is_not_found_is_told_how_to_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert await proposer("./my-agent.sh", tmp_path).propose(context()) is None
    assert "status 127" in caplog.text
    assert "name it by its whole path" in caplog.text


def test_without_bubblewrap_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="install it"):
        hiding([tmp_path], tmp_path)


def test_a_metric_without_a_unit_is_told_without() -> None:
    given = replace(context(), metric=Metric("distance", sigma=0.05))
    assert f"Base {BASE[:10]}: distance 1.25, lower is better" in module.digest(given, 1700)


def test_a_digest_says_how_what_runs_differs_from_the_base() -> None:
    base = {f"WIDTH_{place}": 1 for place in range(60)}
    asset = b"".join(b"%s: Annotated[int, Int(1, 9)] = 1\n" % name.encode() for name in base)
    running = [Attempt("", base), Attempt("", {**base, "WIDTH_59": 4}), Attempt("", {**base, "WIDTH_58": 2}, "wider")]
    given = replace(context(), asset=asset, running=running)
    said = module.digest(given, 1700)
    assert f"(and what differs from the base)\n{QUOTE}WIDTH_59=4\n{QUOTE}wider; WIDTH_58=2\n\n" in said


def test_a_digest_says_what_code_is_being_tried_and_not_what_was_tried_before() -> None:
    given = replace(context(), running=[Attempt("fa12" * 10, {}, "gate\nthe values"), Attempt(OTHER, {}, "once more")])
    said = module.digest(given, 1700)
    assert f"{QUOTE}gate the values\n" in said
    assert "once more" not in said


def test_a_digest_says_what_was_run_in_another_tier_and_does_not_rank_it() -> None:
    far = Trial("fa12" * 10, {}, 0.1, Status.SCORED, "gpu", parent=BASE, author="eve", summary="longer", gain=0.9)
    given = replace(context(), trials=[*context().trials, replace(far, commit=BASE, parent=None), far])
    said = module.digest(given, 1700)
    assert "fa12fa12fa 0.1, gain +0.9 (+18.0 sigma), by eve, on gpu: compare gains alone" in said
    assert f"Base {BASE[:10]}: val_bpb 1.25 bits/byte" in said
    assert said.count("on gpu") == 1
    assert "fa12" not in module.table(given)


@pytest.mark.parametrize("tokens", [1000, 6500, 13_000])
def test_no_section_of_a_digest_crowds_out_the_others(tokens: int) -> None:
    given, words = context(), "wide " * 60
    trials = [replace(given.trials[0], commit=f"{9:x}{number:039x}", summary=words) for number in range(60)]
    around = [replace(given.trials[1], commit=f"{number:040x}", summary=words) for number in range(60)]
    far = [replace(one, commit="f" + one.commit[1:], parent=OTHER) for one in around]
    crash = Trial("c" * 40, {}, None, Status.CRASHED, "cpu", parent=BASE, summary=words, failure="no memory")
    full = replace(
        given, trials=[*given.trials[:1], *trials, *around, *far, crash],
        lineage=[*(one.commit for one in trials), BASE], insights=[Insight("bob", words, [OTHER])] * 30,
    )  # fmt: skip
    said = module.digest(full, tokens)
    assert estimate(said) <= tokens
    sections = [part.splitlines() for part in said.split("## ")[1:]]
    assert [part[0].split("(")[0].strip() for part in sections] == [
        "Where we are", "How we came here", "Tried on this base", "Being run now, by peers or here", "What was learnt",
        "The best of what did not stay", "Failures",
    ]  # fmt: skip
    assert all(len(part) > 1 for part in sections)
    if tokens > 3000:
        assert "no memory" in said
        assert said.count("by bob") >= 5


def test_a_digest_keeps_to_its_bound() -> None:
    given = context()
    many = replace(given, trials=[replace(given.trials[1], commit=f"{number:040x}") for number in range(400)])
    wide = replace(given, trials=[replace(one, summary="更多的步骤" * 40) for one in many.trials])
    for tokens in (70, 300, 1700, 17_000):
        for full in (many, wide):
            assert estimate(module.digest(full, tokens)) <= tokens


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
