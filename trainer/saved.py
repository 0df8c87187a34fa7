"""What a candidate saves of itself: memory of a fixed size, which nobody can change any more once it is sealed.

The kernel holds both (``man 2 memfd_create``, file sealing). There is no name for a candidate to put a link or a
pipe under, and it can't be made to hold answers once the questions are known. The trainer never reads it.
"""

import fcntl
import os
from typing import Self

from protocol.errors import RemoteProtocolError

#: A hundred million weights of float32 and more: ten times what a GPU trains in five minutes. Memory is used
#: only for what is written.
MAX_SAVED_BYTES = 512 << 20


class Saved:
    """``fd`` is for the candidate to write to, ``size`` how many bytes it says that it has written."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("saved", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, MAX_SAVED_BYTES)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        self.size = 0

    def seal(self, size: object) -> None:
        """From now on it stays as it is. Raises RemoteProtocolError where the candidate keeps us from it."""
        if not isinstance(size, int) or not 0 < size <= MAX_SAVED_BYTES:
            raise RemoteProtocolError("frame", f"saved: expected a number of bytes, got {repr(size)[:80]}")
        try:
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
        except OSError as error:  # EBUSY: it is still mapped to be written; EPERM: sealed by another
            raise RemoteProtocolError("frame", f"what it saved can't be sealed: {error.strerror}") from error
        self.size = size

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
