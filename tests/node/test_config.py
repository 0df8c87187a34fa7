"""The grammar of the command line."""

from pathlib import Path

import pytest

from node import config
from node.arguments import parse
from node.config import Doctor, Http, Join, Look, ProgramCheck, ProgramData, ProgramNew, Report, Run, Start
from protocol.errors import UserError

HOME = {"WAGGLE_HOME": "/h", "WAGGLE_CACHE": "/c"}
PLAIN = Start(home=Path("/h"), cache=Path("/c"))


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("start", PLAIN),
        ("start --listen /a --listen /b --join x --join y",
         Start(Path("/h"), Path("/c"), None, ("/a", "/b"), ("x", "y"))),
        ("start --lanes 3", Start(Path("/h"), Path("/c"), lanes=3)),
        ("start --lanes auto", Start(Path("/h"), Path("/c"), lanes=None)),
        ("start --announce /a --announce /b", Start(Path("/h"), Path("/c"), announce=("/a", "/b"))),
        ("start --no-mdns", Start(Path("/h"), Path("/c"), mdns=False)),
        ("start --no-announce", Start(Path("/h"), Path("/c"), announce=())),
        ("start --no-listen", Start(Path("/h"), Path("/c"), listen=())),
        ("start --http [::1]:80", Start(Path("/h"), Path("/c"), http=Http("::1", 80, True))),
        ("start --program p --seed 3 --max-experiments 0 --exit-when-done --unsafe-no-sandbox --device cpu -v --home x",
         Start(Path("x").absolute(), Path("/c"), "p", seed=3, max_experiments=0, exit_when_done=True, unsafe=True,
               device="cpu", verbosity=1)),
        ("join A --yes -q", Join(Start(Path("/h"), Path("/c"), join=("A",), verbosity=-1), "A", True)),
        ("join A --program-hash DEADBEEF --join B",
         Join(Start(Path("/h"), Path("/c"), join=("A", "B")), "A", False, "deadbeef")),
        ("status --json", Look("status", Path("/h"), True)),
        ("log", Look("log", Path("/h"), limit=20)),
        ("log --all", Look("log", Path("/h"), limit=None)),
        ("log -n 3", Look("log", Path("/h"), limit=3)),
        ("best --diff --tier t", Look("best", Path("/h"), diff=True, tier="t")),
        ("report --out o", Report(Path("/h"), Path("o"))),
        ("run --asset a --seed 1 --json", Run(Path("/h"), Path("/c"), None, Path("a"), True, 1)),
        ("program new d", ProgramNew(Path("d"), "lm", None)),
        ("program new d --from lm-mini --text t", ProgramNew(Path("d"), "lm-mini", Path("t"))),
        ("program check d", ProgramCheck("d")),
        ("program data", ProgramData("lm", Path("/c"))),
        ("doctor --json --device cpu", Doctor(True, "cpu")),
    ],
)  # fmt: skip
def test_what_is_understood(line: str, command: config.Command) -> None:
    assert parse(line.split(), HOME) == command


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "COMMAND"),
        ("nosuch", "invalid choice"),
        ("start --http 8420", "expected HOST:PORT, such as 127.0.0.1:8420, got '8420'"),
        ("start --http h:99999", "expected HOST:PORT"),
        ("start --seed -1", "expected"),
        ("start --lanes 0", "expected a number from 1 on, or auto, got '0'"),
        ("start --max-experiments x", "expected a number from 0 on, got 'x'"),
        ("start --listen /a --no-listen", "not allowed with"),
        ("start --agent nobody", "expected local, claude or"),
        ("start --device tpu", "invalid choice"),
        ("join", "ADDR"),
        ("join A --program-hash xyz", "8 to 64 hexadecimal digits"),
        ("best --diff --show", "not allowed with"),
        ("program", "ACTION"),
        ("start extra", "unrecognized arguments: extra"),
    ],
)
def test_what_is_not_understood_is_said_in_one_line(line: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        parse(line.split(), HOME)
    assert "--help)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_homes_by_environment(tmp_path: Path) -> None:
    assert config.default_home({"XDG_DATA_HOME": str(tmp_path)}) == tmp_path / "waggledance"
    assert config.default_home({"XDG_DATA_HOME": "relative"}) == Path.home() / ".local/share/waggledance"
    assert config.default_cache({}) == Path.home() / ".cache/waggledance"


@pytest.mark.parametrize("line", ["--help", "start --help", "join --help", "run --help", "program new --help"])
def test_help(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(line.split(), HOME)
    assert ended.value.code == 0
    assert "usage: waggle" in capsys.readouterr().out


def test_bootstrap_addresses_come_from_a_file_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "addresses"
    file.write_text("# ours\n/a/p2p/1   # the old one\n\n/b/p2p/2\n")
    command = parse(
        ["start", "--join", "/c/p2p/3", "--bootstrap", str(file)], {**HOME, "WAGGLE_BOOTSTRAP": "/d/p2p/4, /e/p2p/5"}
    )
    assert isinstance(command, Start)
    assert command.join == ("/c/p2p/3", "/d/p2p/4", "/e/p2p/5", "/a/p2p/1", "/b/p2p/2")


def test_a_bootstrap_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name, why in (("missing", "no such file"), ("bytes", "no text"), (".", "directory")):
        with pytest.raises(UserError, match=f"(?i)cannot read the bootstrap addresses in .*: .*{why}"):
            parse(["start", "--bootstrap", str(tmp_path / name)], HOME)
