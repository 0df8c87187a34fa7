"""What is sealed stays as it is, with and without the kernel's help."""

import os

import pytest

from protocol.errors import RemoteProtocolError
from trainer.saved import MAX_SAVED_BYTES, Saved


@pytest.fixture(params=[True, False], ids=["memory", "file"])
def saved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Saved:
    if not request.param:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("no memory files on this system")
    return Saved()


def test_nothing_changes_after_the_seal(saved: Saved) -> None:
    with saved:
        theirs = os.dup(saved.fd)
        os.pwrite(theirs, b"weights", 0)
        saved.seal(7)
        try:
            os.pwrite(theirs, b"answers", 0)
        except OSError:
            refused = True
        else:
            refused = False
        assert os.pread(saved.fd, 7, 0) == b"weights"
        assert refused or theirs != saved.fd
        os.close(theirs)
        with pytest.raises(OSError, match=r"Bad file descriptor|not permitted"):
            os.write(saved.fd, b"x")


@pytest.mark.parametrize("size", [0, -1, MAX_SAVED_BYTES + 1, "7", None])
def test_a_size_is_a_number_of_bytes(saved: Saved, size: object) -> None:
    with saved, pytest.raises(RemoteProtocolError, match="expected a number of bytes"):
        saved.seal(size)
