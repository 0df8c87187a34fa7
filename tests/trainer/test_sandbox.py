"""Sandboxes are believed after they were tried, and each attempt from within fails."""

import os
import socket
import sys
from pathlib import Path

import pytest

from protocol.errors import UserError
from tests.trainer.kit import found, reporting, script_program, trainer
from tests.trainer.nobody import ROOT, nobodys_folder, run_as_nobody
from trainer.job import Job
from trainer.probe import probe, strongest
from trainer.sandbox import Bubblewrap, Landlock, Sandbox, Unsafe


async def look(tmp_path: Path, sandbox: Sandbox, body: str) -> dict[str, object]:
    """What a candidate in ``sandbox`` finds out."""
    output: list[bytes] = []
    made = trainer(tmp_path, script_program(tmp_path / "program", reporting(body)), sandbox)
    outcome = await made.run(Job(made.program.asset, 1), on_output=output.append)
    assert outcome.status == "scored", outcome.failure
    return found(b"".join(output))


async def test_the_probe_tells_that_no_sandbox_holds_nothing(tmp_path: Path) -> None:
    probed = await probe(Unsafe(), tmp_path)
    for words in (
        "read a file outside",
        "list a folder outside",
        "write outside",
        "connect to the network",
        "send a datagram",
        "connect to a Unix socket",
        "connect to an abstract socket",
        "open a socket to another machine",
        "signal another process",
        "read another process",
        "change another process's priority",
        "make a file that runs as its owner",
        "take memory that no limit counts",
    ):
        assert [line for line in probed.wrong if words in line], words
    assert not [line for line in probed.wrong if line.startswith("cannot")], "what it needs is there"


async def test_a_sandbox_says_what_it_stops(tmp_path: Path, sandbox: Sandbox) -> None:
    probed = await probe(sandbox, tmp_path)
    assert probed.wrong == []
    assert {"files", "network", "Unix sockets", "signals", "other processes", "name spaces"} <= set(probed.held)


async def test_the_strongest_that_holds_is_taken_and_reasons_are_given(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    tried = await strongest(tmp_path, [lambda: Bubblewrap("/bin/false"), Unsafe, lambda: sandbox])
    assert tried.sandbox is sandbox
    assert len(tried.reasons) == 2
    assert "did not start" in tried.reasons[0]
    assert tried.reasons[1].startswith("none: could ")


async def test_where_nothing_holds_there_is_none(tmp_path: Path) -> None:
    def missing() -> Sandbox:
        raise UserError("bwrap is not installed")

    tried = await strongest(tmp_path, [missing, lambda: Bubblewrap("/nowhere/bwrap"), Unsafe])
    assert tried.sandbox is None
    assert len(tried.reasons) == 3


async def test_secrets_of_the_user_are_not_there(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary")
    (tmp_path / "key").write_text("sk-canary")
    paths = [str(tmp_path / "key"), "/root/.bashrc", "/etc/shadow", f"/proc/{os.getpid()}/environ"]
    seen = await look(
        tmp_path,
        sandbox,
        f"""
def read(path):
    try:
        return open(path, "rb").read().decode("latin-1")
    except OSError:
        return ""
found["read"] = [path for path in {paths} if read(path)]
found["canaries"] = [pid for pid in range(1, 2000) if "canary" in read(f"/proc/{{pid}}/environ")]
found["environ"] = sorted(os.environ)
""",
    )
    assert seen["read"] == []
    assert seen["canaries"] == []
    environ = seen["environ"]
    assert isinstance(environ, list)
    assert not [name for name in environ if "KEY" in name]
    assert "OMP_NUM_THREADS" in environ


async def test_no_network(tmp_path: Path, sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        seen = await look(
            tmp_path,
            sandbox,
            f"""
for name, address in (("loopback", ("127.0.0.1", {server.getsockname()[1]})), ("world", ("192.0.2.1", 80))):
    try:
        socket.create_connection(address, 2)
        found[name] = "connected"
    except OSError as error:
        found[name] = type(error).__name__
""",
        )
    assert "connected" not in seen.values()


async def test_only_the_workspace_can_be_written(tmp_path: Path, sandbox: Sandbox) -> None:
    outside = tmp_path / "outside"
    seen = await look(
        tmp_path,
        sandbox,
        f"""
places = dict(workspace=str(run.workspace / "x"), files=str(run.files / "x"), asset=str(run.asset),
              outside={str(outside)!r}, usr="/usr/x", etc="/etc/x", cwd="y", python=sys.prefix + "/x")
for name, path in places.items():
    try:
        open(path, "w").write("x")
        found[name] = True
    except OSError:
        found[name] = False
""",
    )
    seen.pop("outside")  # bubblewrap has a /tmp of its own, in which that may succeed and means nothing
    assert {name for name, could in seen.items() if could} == {"workspace", "cwd"}
    assert not outside.exists()


async def test_evaluator_and_data_are_not_there(tmp_path: Path, sandbox: Sandbox) -> None:
    data = {f"data/{split}/secret.txt": f"{split} data" for split in ("train", "validation", "holdout")}
    body = """
names = []
for folder, _, files in os.walk(run.files):
    names += [os.path.relpath(os.path.join(folder, name), run.files) for name in files]
found["names"] = sorted(names)
found["above"] = []
for where in (run.files / "..", run.files / ".." / "..", run.files / ".." / ".." / "examiner"):
    try:
        found["above"] += os.listdir(where)
    except OSError:
        pass
found["data"] = {name: bytes(array).decode() for name, array in run.data.items()}
found["fds"] = len(os.listdir("/proc/self/fd"))
"""
    output: list[bytes] = []
    program = script_program(tmp_path / "program", reporting(body), files={**data, "fixed.txt": "fixed"})
    made = trainer(tmp_path, program, sandbox)
    outcome = await made.run(Job(program.asset, 1), on_output=output.append)
    assert outcome.status == "scored", outcome.failure
    seen = found(b"".join(output))
    assert seen["names"] == ["fixed.txt", "program.md", "runner.py", "train.py"]
    assert set(seen["above"]) <= {"files", "work", "candidate"}  # type: ignore[call-overload]
    assert seen["data"] == {"secret.txt": "train data"}
    # standard three, control, two exams, the map of the data, and the one that lists
    assert seen["fds"] == 8


async def test_the_examiner_sees_its_data_and_nothing_of_the_candidate(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    evaluator = """
import os
def examine(exam):
    assert (exam.data / "secret.txt").read_text() == "validation data"
    here = os.path.dirname(os.path.dirname(os.getcwd()))
    for path in (here + "/candidate/files/train.py", str(exam.data.parent / "holdout" / "secret.txt")):
        try:
            open(path).read()
        except OSError:
            continue
        raise exam.Reject("could read " + path)
    assert exam.rng.random() < 1 and len(exam.entropy) == 32
    exam.ask({})
    return {"metric": 2.0}
"""
    data = {f"data/{split}/secret.txt": f"{split} data" for split in ("validation", "holdout")}
    made = trainer(tmp_path, script_program(tmp_path / "program", evaluator=evaluator, files=data), sandbox)
    outcome = await made.run(Job(made.program.asset, 1))
    assert (outcome.status, outcome.metric, outcome.failure) == ("scored", 2.0, "")


SCRIPT = """
import sys, trio
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from trainer.data import Data
from trainer.device import detect
from trainer.experiment import Trainer
from trainer.job import Job
from trainer.program import load_program
from trainer.probe import probe
from trainer.sandbox import Bubblewrap, Landlock
async def main():
    program = load_program(Path(sys.argv[2]) / "tests/programs/numbers")
    for backend in (Bubblewrap, Landlock):
        sandbox, scratch = backend(), Path(sys.argv[1])
        wrong = (await probe(sandbox, scratch)).wrong
        made = Trainer(program, Data(), sandbox, detect("cpu"), scratch=scratch)
        outcome = None if wrong else await made.run(Job(program.asset, 7))
        print(sandbox.name, wrong or outcome.status, flush=True)
trio.run(main)
"""


def test_an_ordinary_user_has_the_same_sandboxes(tmp_path: Path, sandbox: Sandbox) -> None:
    with nobodys_folder() as scratch:
        done = run_as_nobody([sys.executable, "-c", SCRIPT, str(scratch), str(ROOT)], tmp_path / "keep", 120)
    assert f"{sandbox.name} scored" in done.stdout, done.stdout + done.stderr


def test_landlock_and_bubblewrap_say_what_they_are() -> None:
    assert Landlock.safe
    assert Bubblewrap.safe
    assert not Unsafe.safe
