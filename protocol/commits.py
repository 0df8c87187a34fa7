"""Git object ids by hashing alone: a candidate's commit id follows from its parent and its asset.

Author, committer, date and message are the same in every commit, so that the same edit on the same parent has
the same id on every machine, and counts once. What was thought and measured stands in git notes.
https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.errors import LocalProtocolError

AUTHOR = b"waggledance <swarm@waggledance.invalid>"
#: Git's own tools dislike 1970; this is the first second of 2026, UTC.
DATE = b"1767225600 +0000"
GENESIS_MESSAGE = b"genesis\n"
CANDIDATE_MESSAGE = b"candidate\n"

COMMIT_HEX = 40


def object_id(kind: bytes, data: bytes) -> str:
    """The id that git gives an object of ``kind`` (blob, tree, commit) with these bytes, in hex."""
    header = b"%s %d\x00" % (kind, len(data))
    return hashlib.sha1(header + data, usedforsecurity=False).hexdigest()


def blob_id(data: bytes) -> str:
    return object_id(b"blob", data)


@dataclass(frozen=True)
class CommitScheme:
    """How commits of one program are named: its fixed files, and the path of its asset.

    ``files`` holds every file of the program by its path (``/`` between folders), the asset as its author wrote
    it included.
    """

    files: Mapping[str, bytes] = field(repr=False)
    asset: str

    def __post_init__(self) -> None:
        if self.asset not in self.files:
            raise LocalProtocolError(f"the asset {self.asset!r} is not among the program's files")
        blobs = {path: blob_id(data) for path, data in self.files.items()}
        object.__setattr__(self, "_blobs", blobs)
        object.__setattr__(self, "_genesis", object_id(b"commit", self.commit_bytes(None, blobs[self.asset])))

    @property
    def genesis(self) -> str:
        """The commit that holds the program as its author wrote it."""
        genesis = self.__dict__["_genesis"]
        assert isinstance(genesis, str)
        return genesis

    @property
    def genesis_blob(self) -> str:
        return blob_id(self.files[self.asset])

    def tree(self, blob: str) -> str:
        """The id of the tree with the asset's bytes replaced by ``blob``."""
        root, _ = self._build(blob)
        return root

    def tree_objects(self, blob: str) -> dict[str, bytes]:
        """The tree objects, by id, that a repository needs for that tree."""
        _, objects = self._build(blob)
        return objects

    def commit_bytes(self, parent: str | None, blob: str) -> bytes:
        """The raw commit object: genesis where ``parent`` is None."""
        lines = [b"tree " + self.tree(blob).encode()]
        if parent is not None:
            lines.append(b"parent " + parent.encode())
        lines += [b"author %s %s" % (AUTHOR, DATE), b"committer %s %s" % (AUTHOR, DATE), b""]
        return b"\n".join([*lines, CANDIDATE_MESSAGE if parent is not None else GENESIS_MESSAGE])

    def candidate(self, parent: str, blob: str) -> str:
        """The commit id of the candidate with asset ``blob`` (a git blob id) on ``parent``."""
        return object_id(b"commit", self.commit_bytes(parent, blob))

    def _build(self, blob: str) -> tuple[str, dict[str, bytes]]:
        blobs = dict(self.__dict__["_blobs"])
        blobs[self.asset] = blob
        objects: dict[str, bytes] = {}
        return _tree(_nest(blobs), objects), objects


_Folder = dict[str, "str | _Folder"]


def _nest(blobs: Mapping[str, str]) -> _Folder:
    root: _Folder = {}
    for path, blob in blobs.items():
        *folders, name = path.split("/")
        here = root
        for folder in folders:
            below = here.setdefault(folder, {})
            if isinstance(below, str):
                raise LocalProtocolError(f"{path!r}: {folder!r} is a file as well as a folder")
            here = below
        if isinstance(here.get(name), dict):
            raise LocalProtocolError(f"{path!r} is a folder as well as a file")
        here[name] = blob
    return root


def _tree(folder: _Folder, objects: dict[str, bytes]) -> str:
    def order(item: tuple[str, str | _Folder]) -> bytes:
        name, below = item
        return name.encode() + (b"" if isinstance(below, str) else b"/")  # git sorts folders as "name/"

    entries = []
    for name, below in sorted(folder.items(), key=order):
        if isinstance(below, str):
            mode, child = b"100644", below
        else:
            mode, child = b"40000", _tree(below, objects)
        entries.append(mode + b" " + name.encode() + b"\x00" + bytes.fromhex(child))
    data = b"".join(entries)
    tree_id = object_id(b"tree", data)
    objects[tree_id] = data
    return tree_id
