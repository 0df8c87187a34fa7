"""The lineage as an ordinary git repository: a candidate has the id there that ``protocol.commits`` gives it.

    git clone HOME/lineage           works: it is a bare repository whose branch ``best`` is the incumbent
    git log best                     shows summaries and metrics: they stand in git notes

Single candidates are written by GitPython as loose objects, whole lineages by ``git fast-import``. Reading
(one ``git cat-file`` stays open) and single writes take about a millisecond and are plain calls; what starts
a git process is async and runs in a worker thread, one at a time.
"""

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    def add(self, step: Step) -> None: ...
    async def merge(self, base: bytes, ours: bytes, theirs: bytes) -> bytes | None: ...
    async def publish(self, best: str, steps: Sequence[Step], notes: Mapping[str, str]) -> None: ...


class GitLineage:
    """The repository of one home; genesis is written at once. Raises UserError where git can't do that."""

    def __init__(self, path: Path, scheme: CommitScheme) -> None:
        self._scheme = scheme
        self._one_at_a_time = trio.CapacityLimiter(1)
        try:
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

    def add(self, step: Step) -> None:
        """Write a candidate. Raises LocalProtocolError where its id does not follow from parent and asset."""
        if step.commit not in self:
            self._write(step.commit, step.parent, _check(self._scheme, step), step.asset)

    # what takes a git process

    async def merge(self, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
        """The 3-way merge of two assets that come from ``base``; None where they conflict."""
        return await self._in_thread(lambda: self._merge(base, ours, theirs))

    async def publish(self, best: str, steps: Sequence[Step], notes: Mapping[str, str]) -> None:
        """Write ``steps`` (parents first) in bulk, set notes by commit, and move the branch to ``best``."""
        for step in steps:
            _check(self._scheme, step)
        await self._in_thread(lambda: self._import(best, steps, notes))

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

    def _import(self, best: str, steps: Sequence[Step], notes: Mapping[str, str]) -> None:
        noted = git.Reference(self._repo, NOTES).is_valid()
        with tempfile.TemporaryFile() as stream:
            stream.writelines(_fast_import(self._scheme.asset, best, steps, notes, noted))
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


def _fast_import(
    path: str, best: str, steps: Sequence[Step], notes: Mapping[str, str], noted: bool
) -> Iterator[bytes]:
    """The stream (https://git-scm.com/docs/git-fast-import); commits that it makes are named by marks."""
    marks: dict[str, bytes] = {}

    def name(commit: str) -> bytes:
        return marks.get(commit, commit.encode())

    for number, step in enumerate(steps, start=1):
        yield b"commit %s\nmark :%d\n" % (IMPORTED.encode(), number)
        yield _signed(CANDIDATE_MESSAGE)
        yield b"from %s\nM 100644 inline %s\n" % (name(step.parent), path.encode()) + _data(step.asset)
        marks[step.commit] = b":%d" % number
    if notes:
        yield b"commit %s\n" % NOTES.encode() + _signed(b"notes\n")
        yield b"from %s^0\n" % NOTES.encode() if noted else b""
        for commit, text in notes.items():
            yield b"N inline %s\n" % name(commit) + _data(text.encode())
    yield b"reset %s\nfrom %s\n\ndone\n" % (BEST.encode(), name(best))


def _signed(message: bytes) -> bytes:
    return b"author %s %s\ncommitter %s %s\n" % (AUTHOR, DATE, AUTHOR, DATE) + _data(message)


def _data(data: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(data), data)
