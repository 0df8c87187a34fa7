"""The lineage as an ordinary git repository: a candidate has the id there that ``protocol.commits`` gives it.

    git clone HOME/lineage           works: it is a bare repository whose branch ``best`` is the incumbent
    git log best                     shows summaries and metrics: they stand in git notes

Single candidates are written by GitPython as loose objects, whole lineages by ``git fast-import``. Reading
(one ``git cat-file`` stays open) and single writes take about a millisecond and are plain calls; what starts
a git process is async and runs in a worker thread, one at a time.
"""

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import git
import trio
from git.exc import GitCommandNotFound, GitError
from gitdb.base import IStream  # type: ignore[import-untyped]

from protocol.commits import AUTHOR, CANDIDATE_MESSAGE, DATE, CommitScheme, blob_id
from protocol.errors import LocalProtocolError, UserError

BEST = "refs/heads/best"
NOTES = "refs/notes/commits"
#: Keeps what fast-import wrote from being unreachable.
IMPORTED = "refs/waggle/imported"
#: Beyond this many, a process and a pack cost less than files.
MAX_LOOSE = 32
#: What users set for themselves must not change what we write.
_ENVIRONMENT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """A candidate to be written: its commit id follows from the parent and the asset."""

    commit: str
    parent: str
    asset: bytes


class Lineage(Protocol):
    """Where assets are kept by commit."""

    def __contains__(self, commit: str) -> bool: ...
    def asset(self, commit: str) -> bytes | None: ...
    async def write(self, steps: Sequence[Step]) -> None: ...
    async def merge(self, base: bytes, ours: bytes, theirs: bytes) -> bytes | None: ...
    async def publish(self, best: str, notes: Mapping[str, str]) -> None: ...


class GitLineage:
    """The repository of one home; genesis is written at once. Raises UserError where git can't do that."""

    def __init__(self, path: Path, scheme: CommitScheme) -> None:
        self._scheme = scheme
        self._one_at_a_time = trio.CapacityLimiter(1)
        try:
            path.mkdir(parents=True, exist_ok=True)  # GitPython would fall back to the current directory
            self._repo = git.Repo.init(path, bare=True, initial_branch="best")
            self._repo.git.update_environment(**_ENVIRONMENT)
            with self._repo.config_writer() as config:
                # candidates that were not accepted hang on no branch, and are kept all the same
                config.set_value("gc", "auto", 0)
                config.set_value("gc", "pruneExpire", "never")
            self._write_genesis()
        except GitCommandNotFound as error:
            raise UserError("git is needed, and was not found on the PATH") from error
        except (GitError, OSError) as error:
            raise UserError(f"cannot use {path} as a git repository: {error}") from error

    def close(self) -> None:
        self._repo.close()

    # single candidates

    def __contains__(self, commit: str) -> bool:
        try:
            self._repo.odb.info(bytes.fromhex(commit))
        except ValueError:
            return False
        return True

    def asset(self, commit: str) -> bytes | None:
        """The asset's bytes at ``commit``, or None where it is not here."""
        try:
            tree = git.Commit(self._repo, bytes.fromhex(commit)).tree
            data = tree.join(self._scheme.asset).data_stream.read()
        except (ValueError, KeyError):
            return None
        assert isinstance(data, bytes)
        return data

    async def write(self, steps: Sequence[Step]) -> None:
        """Write candidates, parents first. Raises LocalProtocolError where an id does not follow from parent
        and asset.
        """
        blobs = [_check(self._scheme, step) for step in steps]
        if len(steps) > MAX_LOOSE:
            await self._import(_candidates(self._scheme.asset, steps))
            return
        for step, blob in zip(steps, blobs, strict=True):
            self._write(step.commit, step.parent, blob, step.asset)

    # what takes a git process

    async def merge(self, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        """The 3-way merge of two assets that come from ``base``; None where they conflict."""
        return await self._in_thread(lambda: self._merge(base, ours, theirs))

    async def publish(self, best: str, notes: Mapping[str, str]) -> None:
        """Move the branch to ``best``, and set notes by commit. All these commits must be here."""
        noted = git.Reference(self._repo, NOTES).is_valid()
        await self._import(_notes(best, notes, noted))

    async def diff(self, old: str, new: str) -> str:
        """What ``git diff old new`` says."""
        return await self._in_thread(lambda: str(self._repo.git.diff(old, new)))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._one_at_a_time)

    def _merge(self, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        with tempfile.TemporaryDirectory(prefix="waggle-merge-") as folder:
            paths = [Path(folder, name) for name in ("ours", "base", "theirs")]
            for path, data in zip(paths, (ours, base, theirs), strict=True):
                path.write_bytes(data)
            status, merged, _ = self._repo.git.merge_file(
                "-p", *map(str, paths), with_extended_output=True, with_exceptions=False,
                stdout_as_string=False, strip_newline_in_stdout=False,
            )  # fmt: skip
        assert isinstance(merged, bytes)
        return merged if status == 0 else None

    async def _import(self, rows: Iterable[bytes]) -> None:
        await self._in_thread(lambda: self._fast_import(rows))

    def _fast_import(self, rows: Iterable[bytes]) -> None:
        """https://git-scm.com/docs/git-fast-import"""
        with tempfile.TemporaryFile() as stream:
            stream.writelines(rows)
            stream.write(b"done\n")
            stream.seek(0)
            self._repo.git.fast_import("--quiet", "--force", "--done", istream=stream)

    # objects

    def _write_genesis(self) -> None:
        if self._scheme.genesis in self:
            return
        for data in self._scheme.files.values():
            self._store(b"blob", data)
        asset = self._scheme.files[self._scheme.asset]
        self._write(self._scheme.genesis, None, self._scheme.genesis_blob, asset)
        git.Head(self._repo, BEST).set_commit(self._scheme.genesis)

    def _write(self, commit: str, parent: str | None, blob: str, asset: bytes) -> None:
        self._store(b"blob", asset)
        for tree in self._scheme.tree_objects(blob).values():
            self._store(b"tree", tree)
        found = self._store(b"commit", self._scheme.commit_bytes(parent, blob))
        if found != commit:
            raise LocalProtocolError(f"git names {found} what the protocol names {commit}")

    def _store(self, kind: bytes, data: bytes) -> str:
        stored = self._repo.odb.store(IStream(kind, len(data), io.BytesIO(data)))
        return bytes(stored.hexsha).decode()


def _check(scheme: CommitScheme, step: Step) -> str:
    """The asset's blob id. Raises LocalProtocolError where the commit's id does not follow."""
    blob = blob_id(step.asset)
    if scheme.candidate(step.parent, blob) != step.commit:
        raise LocalProtocolError(f"{step.commit} does not follow from its parent and asset")
    return blob


def _candidates(path: str, steps: Sequence[Step]) -> Iterator[bytes]:
    """Commits of the stream itself are named by marks."""
    marks: dict[str, str] = {}
    for number, step in enumerate(steps, start=1):
        parent = marks.get(step.parent, step.parent)
        yield b"commit %s\nmark :%d\n" % (IMPORTED.encode(), number) + _signed(CANDIDATE_MESSAGE)
        yield f"from {parent}\nM 100644 inline {path}\n".encode() + _data(step.asset)
        marks[step.commit] = f":{number}"


def _notes(best: str, notes: Mapping[str, str], noted: bool) -> Iterator[bytes]:
    if notes:
        yield f"commit {NOTES}\n".encode() + _signed(b"notes\n")
        yield f"from {NOTES}^0\n".encode() if noted else b""
    for commit, text in notes.items():
        yield f"N inline {commit}\n".encode() + _data(text.encode())
    yield f"reset {BEST}\nfrom {best}\n\n".encode()


def _signed(message: bytes) -> bytes:
    return b"author %s %s\ncommitter %s %s\n" % (AUTHOR, DATE, AUTHOR, DATE) + _data(message)


def _data(data: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(data), data)
