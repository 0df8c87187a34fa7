"""Keys of private swarms: their files, the options, and what a home remembers."""

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gossip.private import KEY_BYTES, new_key, read_key
from node.arguments import parse
from node.cli import main
from node.commands import start
from node.config import Start, SwarmKeyNew
from node.journal import IN_MEMORY, Journal
from protocol.errors import UserError
from protocol.identity import Identity

PLAIN = Start(Path("/h"), Path("/c"))
PEER, ANOTHER = (Identity(bytes([number]) * KEY_BYTES).peer_id for number in (1, 2))
HEX = "0123456789abcdef" * 4


@pytest.fixture
def journal() -> Iterator[Journal]:
    made = Journal(IN_MEMORY)
    yield made
    made.close()


def parsed(line: str) -> Start:
    found = parse(line.split(), {"WAGGLE_HOME": "/h", "WAGGLE_CACHE": "/c"})
    assert isinstance(found, Start)
    return found


def write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


# the file


def test_a_new_key_is_its_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        new_key(tmp_path / "key")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    first, second, third, *rest = (tmp_path / "key").read_text().split("\n")
    assert (first, second, rest) == ("/key/swarm/psk/1.0.0/", "/base16/", [""])
    assert read_key(tmp_path / "key") == bytes.fromhex(third)
    new_key(tmp_path / "other")
    assert read_key(tmp_path / "other") != read_key(tmp_path / "key")


def test_a_key_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key"
    assert main(["swarm-key", "new", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"waggle start --swarm-key {path}" in said
    held = path.read_text()
    assert held.split()[2] not in said
    assert main(["swarm-key", "new", str(path)]) == 2
    assert capsys.readouterr().err == f"waggle: {path} is there already, and is not overwritten: name another file\n"
    assert path.read_text() == held
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is there already"):
        new_key(tmp_path / "link")
    assert not (tmp_path / "nowhere").exists()


def test_a_key_where_none_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"cannot write {tmp_path}/no/key: no such file or directory"):
        new_key(tmp_path / "no" / "key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o660, 0o777])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "key", f"/key/swarm/psk/1.0.0/\n/base16/\n{HEX}\n".encode(), mode)
    with pytest.raises(UserError, match=f"chmod 600 {path}$"):
        read_key(path)
    path.chmod(0o400)
    assert read_key(path) == bytes.fromhex(HEX)


@pytest.mark.parametrize(
    "text",
    [
        f"/key/swarm/psk/1.0.0/\n/base16/\n{HEX}\n",
        f"/key/swarm/psk/1.0.0/\n/base16/\n{HEX}",
        f"/key/swarm/psk/1.0.0/\r\n/base16/\r\n{HEX.upper()}\r\n",
    ],
)
def test_a_key_of_another_make(tmp_path: Path, text: str) -> None:
    assert read_key(write(tmp_path / "key", text.encode())) == bytes.fromhex(HEX)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "its first line is to be /key/swarm/psk/1.0.0/"),
        (HEX.encode(), "its first line is to be"),
        (os.urandom(500), "its first line is to be"),
        (b"/key/swarm/psk/1.0.0/\n" * 1000, "its first line is to be"),
        (b"/key/swarm/psk/1.0.0/\n/base64/\nAAAA\n", "its second line is to be /base16/"),
        (b"/key/swarm/psk/1.0.0/\n", "its second line is to be /base16/"),
        (b"/key/swarm/psk/1.0.0/\n/base16/\n", "64 hex digits"),
        (b"/key/swarm/psk/1.0.0/\n/base16/\n" + HEX[:-2].encode(), "64 hex digits"),
        (b"/key/swarm/psk/1.0.0/\n/base16/\n" + HEX.encode() + b"00", "64 hex digits"),
        (b"/key/swarm/psk/1.0.0/\n/base16/\n" + b"xy" * 32, "64 hex digits"),
        (b"/key/swarm/psk/1.0.0/\n/base16/\n" + HEX.encode() + b"\n" + HEX.encode(), "64 hex digits"),
    ],
)
def test_what_is_no_key_is_told_in_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    path = write(tmp_path / "key", data)
    with pytest.raises(UserError, match=said) as caught:
        read_key(path)
    assert str(caught.value).startswith(f"{path} is not a swarm key")
    assert "\n" not in str(caught.value)
    assert HEX[:-2] not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or directory; give --swarm-key FILE"):
        read_key(tmp_path / "key")
    with pytest.raises(UserError, match=r"cannot read swarm key .*: is a directory"):
        read_key(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UserError, match="not a file"):
        read_key(tmp_path / "pipe")


# the options


def test_what_is_understood() -> None:
    assert parse(["swarm-key", "new", "k"], {}) == SwarmKeyNew(Path("k").absolute())
    assert parsed("start --swarm-key k") == replace(PLAIN, swarm_key=Path("k").absolute())
    assert parsed("start --no-swarm-key --allow-all") == replace(PLAIN, public=True, allow=())
    assert parsed(f"start --allow {PEER} --allow {ANOTHER}") == replace(PLAIN, allow=(PEER, ANOTHER))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("swarm-key", "ACTION"),
        ("swarm-key new", "FILE"),
        ("start --swarm-key k --no-swarm-key", "not allowed with"),
        ("start --allow nobody", "expected a peer id, such as 12D3KooW…, got 'nobody'"),
        (f"join A --allow {PEER[:-1]}", "expected a peer id"),
        (f"start --allow {PEER} --allow-all", "not allowed with"),
    ],
)
def test_what_is_not_understood(line: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse(line.split(), {})


# what a home remembers


def test_a_home_stays_as_private_as_it_was(journal: Journal) -> None:
    key = Path("/somewhere/key")
    assert (start._key_file(PLAIN, journal), start._allowed(PLAIN, journal)) == (None, ())
    start._stay_private(journal, key, (PEER,))
    assert (start._key_file(PLAIN, journal), start._allowed(PLAIN, journal)) == (key, (PEER,))
    other = replace(PLAIN, swarm_key=Path("/other"), allow=(ANOTHER,))
    assert (start._key_file(other, journal), start._allowed(other, journal)) == (Path("/other"), (ANOTHER,))
    opened = replace(PLAIN, public=True, allow=())
    assert (start._key_file(opened, journal), start._allowed(opened, journal)) == (None, ())
    start._stay_private(journal, None, ())
    assert (start._key_file(PLAIN, journal), start._allowed(PLAIN, journal)) == (None, ())
