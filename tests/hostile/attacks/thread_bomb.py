"""Threads without end."""

import threading
import time


def train(run):
    print("begun", flush=True)
    while True:
        try:
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        except RuntimeError:
            time.sleep(0.01)
