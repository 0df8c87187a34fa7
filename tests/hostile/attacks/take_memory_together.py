"""Memory without end, each process within its bound."""

import os
import time


def train(run):
    print("begun", flush=True)
    for _ in range(60):
        if os.fork() == 0:
            held = bytearray(b"x" * (96 << 20))
            time.sleep(600)
            print(len(held))
        time.sleep(0.05)
    time.sleep(600)
