"""The folder of one run: what the candidate and its examiners find there, and its removal."""

import itertools
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trio

from trainer.program import DATA_FOLDER, TEXT_FOLDER, Spec

CANDIDATE, EXAMINER = "candidate", "examiner"
#: A workspace of millions of files takes long to remove; the next run's sweep takes what is left.
REMOVE_SECONDS = 30.0
_PREFIX = "run-"
_REMOVED = "removed-"


@asynccontextmanager
async def temporary(scratch: Path) -> AsyncIterator[Path]:
    """A folder of our own below ``scratch``, removed on leaving; and what killed nodes left there."""
    folder = await trio.to_thread.run_sync(_make, scratch)
    try:
        yield folder
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(remove, folder)


def lay_out(folder: Path, spec: Spec, files: Mapping[str, bytes], exams: int) -> None:
    """Write what the candidate and its ``exams`` examiners may see, and make their workspaces.

    The candidate sees neither the evaluator nor any data; the examiners see the evaluator alone.
    """
    for path, data in files.items():
        if path != spec.evaluator and not path.startswith((f"{TEXT_FOLDER}/", f"{DATA_FOLDER}/")):
            _write(folder / CANDIDATE / "files" / path, data)
    _write(folder / EXAMINER / "evaluator.py", files[spec.evaluator])
    (folder / CANDIDATE / "work").mkdir()
    for number in range(exams):
        (folder / EXAMINER / f"work-{number}").mkdir()


def list_files(folder: Path | None) -> dict[str, Path]:
    """Files below ``folder`` by their path in it, in ascending order."""
    if folder is None:
        return {}
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def remove(folder: Path, seconds: float = REMOVE_SECONDS) -> None:
    """Remove a folder in which foreign code has written, whatever it did to access rights, for so long.

    Folders are moved up before they are emptied: however deep they lie, no path becomes too long.
    """
    deadline, numbers = time.monotonic() + seconds, itertools.count()
    waiting = [str(folder)]
    while waiting and time.monotonic() < deadline:
        at = waiting.pop()
        with suppress(OSError), os.scandir(at) as entries:
            for entry in entries:
                with suppress(OSError):
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.path)
                        continue
                    os.chmod(entry.path, stat.S_IRWXU)
                    moved = os.path.join(folder, f"{_REMOVED}{next(numbers)}")
                    os.rename(entry.path, moved)
                    waiting.append(moved)
                if time.monotonic() > deadline:
                    return
        if at != str(folder):
            with suppress(OSError):
                os.rmdir(at)
    with suppress(OSError):
        os.rmdir(folder)


def _make(scratch: Path) -> Path:
    scratch.mkdir(parents=True, exist_ok=True)
    for left in scratch.glob(f"{_PREFIX}*-*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists() and Path("/proc/self").exists():
            remove(left)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=scratch)).resolve()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
