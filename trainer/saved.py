"""What a candidate saves of itself: memory of a fixed size, which nobody can change any more once it is sealed.

On Linux the kernel holds both (``man 2 memfd_create``, file sealing); elsewhere it is a file, copied when it is
sealed. There is no name for a candidate to put a link or a pipe under, and it can't be made to hold answers once the
questions are known. The trainer looks at nothing in it.
"""

import fcntl
import os
import tempfile
from pathlib import Path
from typing import Self

from protocol.errors import RemoteProtocolError

#: A hundred million weights of float32 and more: ten times what a GPU trains in five minutes. Memory is used
#: only for what is written.
MAX_SAVED_BYTES = 512 << 20


class Saved:
    """``fd`` is for the candidate to write to, ``size`` how many bytes it says that it has written."""

    def __init__(self) -> None:
        self.fd = _memory() if hasattr(os, "memfd_create") else _nameless_file()
        self.size = 0

    def seal(self, size: object) -> None:
        """From now on it stays as it is. Raises RemoteProtocolError where the candidate keeps us from it."""
        if not isinstance(size, int) or not 0 < size <= MAX_SAVED_BYTES:
            raise RemoteProtocolError("frame", f"saved: expected a number of bytes, got {repr(size)[:80]}")
        if not hasattr(os, "memfd_create"):
            self._copy(size)
        else:
            try:
                fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
            except OSError as error:  # EBUSY: it is still mapped to be written; EPERM: sealed by another
                raise RemoteProtocolError("frame", f"what it saved can't be sealed: {error.strerror}") from error
        self.size = size

    def _copy(self, size: int) -> None:
        """Into a file that nobody has open to be written."""
        with tempfile.NamedTemporaryFile() as copy, open(self.fd, "rb") as source:
            source.seek(0)
            copy.write(source.read(size))
            copy.flush()
            self.fd = os.open(copy.name, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _memory() -> int:
    fd = os.memfd_create("saved", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, MAX_SAVED_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd


def _nameless_file() -> int:
    fd, name = tempfile.mkstemp()
    Path(name).unlink()
    os.ftruncate(fd, MAX_SAVED_BYTES)
    return fd
