"""Commands as an ordinary user, for tests that run as root."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import join, quote

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
#: Python may be root's own, below folders that are closed to others: it is bound where they can reach it.
_SCRIPT = """
set -e
mkdir -p {keep}
mount --bind {python} {keep}
mount -t tmpfs -o mode=755 none /root
mkdir -p {python}
mount --bind {keep} {python}
exec setpriv --reuid={user} --regid={user} --clear-groups {command}
"""


@contextmanager
def nobodys_folder() -> Iterator[Path]:
    """A folder of that user's, which it can reach."""
    with tempfile.TemporaryDirectory(prefix="waggle-nobody-", dir="/tmp") as folder:
        os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


def run_as_nobody(command: list[str], keep: Path, seconds: float) -> "subprocess.CompletedProcess[str]":
    """Skips the test where we are no root or may not mount. ``keep`` is a free path of ours."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("only root on Linux can become another user")
    python = str(Path(sys.base_prefix).resolve())
    script = _SCRIPT.format(
        keep=quote(str(keep)), python=quote(python if python.startswith("/root/") else "/usr/share/empty"),
        user=NOBODY, command=join(command),
    )  # fmt: skip
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], cwd=ROOT, capture_output=True, timeout=seconds, text=True
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount name space here: {done.stderr.strip()}")
    return done
