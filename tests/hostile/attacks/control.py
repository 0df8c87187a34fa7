"""No attack: an honest candidate writes a little, starts a process and maps memory."""

import mmap
import subprocess
import sys
import tempfile


def train(run):
    (run.workspace / "checkpoint").write_bytes(b"x" * 1_000_000)
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
    print(subprocess.run([sys.executable, "-c", "print('a child')"], capture_output=True, check=True).stdout)
    mmap.mmap(-1, 1 << 20).write(b"x")
