"""Bytes without end in files that have no name any more."""

import contextlib
import os


def train(run):
    print("begun", flush=True)
    held = []
    while True:
        with contextlib.suppress(OSError):
            held.append(open("file", "wb", buffering=0))
            os.unlink("file")
            held[-1].write(b"x" * (16 << 20))
