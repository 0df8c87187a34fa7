"""Output without end, with what a terminal would obey."""

import os


def train(run):
    print("begun", flush=True)
    while True:
        os.write(1, b"\x1b[2J\x1b]0;title\x07" + b"x" * 65536)
