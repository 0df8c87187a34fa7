"""A node's folder: its key, who may run on it, and where it answers."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from node.home import Home
from protocol.errors import UserError

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, pathlib, node.home
with node.home.Home(pathlib.Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.create()
    return made


def test_the_key_is_made_once_and_is_its_owners_alone(home: Home) -> None:
    first = home.identity()
    assert home.identity().peer_id == first.peer_id
    assert stat.S_IMODE((home.path / "identity").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("text", ["", "not hex", "abcd"])
def test_a_damaged_key_is_said_and_kept(home: Home, text: str) -> None:
    (home.path / "identity").write_text(text)
    with pytest.raises(UserError, match="is not a key"):
        home.identity()
    assert (home.path / "identity").read_text() == text


def test_one_node_at_a_time_and_the_lock_dies_with_it(home: Home) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(home.path)], cwd=ROOT, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert home.running
        with pytest.raises(UserError, match="already running"), home.locked():
            pytest.fail("two nodes on one home")
        holder.kill()
    assert not home.running
    with home.locked():
        assert home.running


def test_what_is_announced_is_believed_only_while_the_node_runs(home: Home) -> None:
    with home.locked():
        home.announce({"http": "http://127.0.0.1:1"})
        assert home.announced() == {"http": "http://127.0.0.1:1"}
    assert home.announced() is None
    (home.path / "node.json").write_text('{"http": "left by a node that was killed"}')
    assert home.announced() is None


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot use .*: Not a directory"):
        Home(tmp_path / "file" / "home").create()
