"""A program as bytes: the list of its files, their hash that names the swarm, and the form in which it travels."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from protocol import codec, zstd
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.rules import RULES_VERSION

#: A program brings its text along where the user gave it one; the built-in ones have under 1 MiB.
MAX_PROGRAM_BYTES = 64 * 1024 * 1024
#: A folder of texts, not a file system.
MAX_FILES = 4000
#: One folder in another, a few times.
MAX_PATH_BYTES = 200
#: The files, and their paths with some bytes of framing each.
_MAX_PACKED_BYTES = MAX_PROGRAM_BYTES + MAX_FILES * (MAX_PATH_BYTES + 16)
_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@ -]*")
_DOMAIN = b"waggle-program"


@dataclass(frozen=True)
class FileEntry:
    path: str
    sha256: bytes
    size: int


@dataclass(frozen=True)
class Manifest:
    """The files of a program, in ascending order of path."""

    files: tuple[FileEntry, ...]

    @property
    def swarm_id(self) -> bytes:
        """32 bytes: the hash of every path and file, and of the version of the ledger's rules."""
        head = _DOMAIN + bytes([RULES_VERSION])
        body = codec.encode([[entry.path, entry.sha256, entry.size] for entry in self.files])
        return hashlib.sha256(head + body).digest()


def check_path(path: str) -> None:
    """Raises LocalProtocolError for a path that could lead out of the program's folder or confuse git."""
    parts = path.split("/")
    if len(path.encode()) > MAX_PATH_BYTES or not all(_SAFE_PART.fullmatch(part) for part in parts):
        raise LocalProtocolError(f"unsafe path {path!r}")
    if any(part.lower().rstrip(". ") in {".git", "git~1"} for part in parts):
        raise LocalProtocolError(f"unsafe path {path!r}")


def manifest_of(files: Mapping[str, bytes]) -> Manifest:
    """Raises LocalProtocolError where a path is unsafe or a bound is passed."""
    if len(files) > MAX_FILES:
        raise LocalProtocolError(f"{len(files)} files, at most {MAX_FILES}")
    if sum(map(len, files.values())) > MAX_PROGRAM_BYTES:
        raise LocalProtocolError(f"a program has at most {MAX_PROGRAM_BYTES} bytes")
    for path in files:
        check_path(path)
    return Manifest(
        tuple(FileEntry(path, hashlib.sha256(files[path]).digest(), len(files[path])) for path in sorted(files))
    )


def swarm_id(files: Mapping[str, bytes]) -> bytes:
    return manifest_of(files).swarm_id


def pack(files: Mapping[str, bytes]) -> bytes:
    """The form in which a program travels and is kept: zstd of its files."""
    manifest_of(files)
    return zstd.compress(codec.encode(dict(files)))


def unpack(packed: bytes, expect: bytes) -> dict[str, bytes]:
    """The files of a packed program whose hash must be ``expect``. Raises RemoteProtocolError."""
    try:
        data = zstd.decompress(packed, _MAX_PACKED_BYTES)
        files = codec.decode(data, max_bytes=_MAX_PACKED_BYTES)
        if not isinstance(files, dict) or not all(isinstance(body, bytes) for body in files.values()):
            raise RemoteProtocolError("program", "expected a map of files")
        found = swarm_id(files)
    except LocalProtocolError as error:
        raise RemoteProtocolError("program", str(error)) from error
    if found != expect:
        raise RemoteProtocolError("program", f"hashes to {found.hex()[:12]}, expected {expect.hex()[:12]}")
    return files
