"""A program's bytes hash to its swarm; packed programs are checked before use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec, zstd
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.manifest import manifest_of, pack, swarm_id, unpack

FILES = {"program.md": b"+++\n+++\n", "train.py": b"x = 1\n", "text/a.txt": b"a"}


def test_a_packed_program_unpacks_to_the_same_files() -> None:
    assert unpack(pack(FILES), swarm_id(FILES)) == FILES


def test_any_change_is_another_swarm() -> None:
    assert swarm_id(FILES) != swarm_id(FILES | {"train.py": b"x = 2\n"})
    assert swarm_id(FILES) != swarm_id({**FILES, "train2.py": b""})
    assert [entry.path for entry in manifest_of(FILES).files] == sorted(FILES)


def test_other_bytes_than_promised_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="hashes to"):
        unpack(pack(FILES | {"train.py": b"evil"}), swarm_id(FILES))


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a//b", ".git/hooks/x", "a/.git/x", "", "a/..", "x" * 300, "a\\b", "git~1/x"]
)
def test_unsafe_paths_are_refused(path: str) -> None:
    with pytest.raises(LocalProtocolError):
        manifest_of({path: b""})
    with pytest.raises(RemoteProtocolError):
        unpack(zstd.compress(codec.encode({path: b""})), b"x" * 32)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    for packed in (data, zstd.compress(data)):
        with pytest.raises(RemoteProtocolError):
            unpack(packed, b"x" * 32)
