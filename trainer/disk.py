"""What a run takes of a disk, found by looking, for sandboxes in which the kernel does not count it.

Three looks, since one can be hidden from: at the files below the run's folder; at files that were deleted and are
still open, where the kernel lets us see them; and at what the whole disk has left.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import trio

from trainer.spawn import WORKSPACE_BYTES, WORKSPACE_FILES
from trainer.tree import Tree

#: Between two looks, at least and at most; a folder at its limit takes some 30 ms to look through.
LOOK_SECONDS = (0.05, 0.5)
#: Looking takes one part in so many of a core, but for the bounds above and where a folder is nearly full.
_SHARE = 20
#: A run is ended when its disk has less than this, or than half of what it had when the run began: others need it.
RESERVE_BYTES = 512 << 20
#: Of ``st_blocks``, whatever the file system's own blocks are.
_BLOCK = 512


class Disk:
    """The disk of a run whose children write below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._device = folder.stat().st_dev
        self._reserve = min(RESERVE_BYTES, self._free() // 2)
        self._full = 0.0

    async def overused(self, trees: Sequence[Tree]) -> str:
        """Wait until more is taken than is granted, also by ``trees`` that are added meanwhile; what, in one line."""
        while True:
            begun = trio.current_time()
            if why := await trio.to_thread.run_sync(self.overuse, trees):
                return why
            least, most = LOOK_SECONDS
            wanted = min(most, _SHARE * (trio.current_time() - begun))
            await trio.sleep(max(least, wanted * (1.0 - self._full)))

    def overuse(self, trees: Sequence[Tree]) -> str:
        """What is over its limit now, in one line, or ""."""
        size = files = 0
        try:
            for one in self._visible():
                files += 1
                size += one.st_blocks * _BLOCK
                if files > WORKSPACE_FILES:
                    return f"made more than the {WORKSPACE_FILES} files that are granted"
                if size > WORKSPACE_BYTES:
                    break
        except OSError as error:  # closed, or deeper than a path can say
            return f"made a folder that cannot be looked into: {error.strerror}"
        self._full = files / WORKSPACE_FILES
        size += sum(one.st_blocks * _BLOCK for one in self._deleted(trees))
        if size > WORKSPACE_BYTES:
            return f"wrote more than the {WORKSPACE_BYTES >> 20} MiB that are granted"
        if self._free() < self._reserve:
            return f"left less than {self._reserve >> 20} MiB free on the disk"
        return ""

    def _visible(self) -> Iterator[os.stat_result]:
        """Everything below the folder; what vanishes meanwhile is passed over."""
        waiting = [str(self._folder)]
        while waiting:
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        if stat.S_ISDIR(found.st_mode):
                            waiting.append(entry.path)
                        yield found

    def _deleted(self, trees: Sequence[Tree]) -> Iterable[os.stat_result]:
        """Files of the same disk that have no name any more, each once."""
        found: dict[int, os.stat_result] = {}
        for member in (member for tree in trees for member in tree.members()):
            with suppress(OSError), os.scandir(f"/proc/{member.pid}/fd") as entries:
                for entry in entries:
                    with suppress(OSError):
                        one = entry.stat()
                        if one.st_nlink == 0 and one.st_dev == self._device and stat.S_ISREG(one.st_mode):
                            found[one.st_ino] = one
        return found.values()

    def _free(self) -> int:
        """Bytes that are left to ordinary users."""
        space = os.statvfs(self._folder)
        return space.f_bavail * space.f_frsize
