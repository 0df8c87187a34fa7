"""A stopped process, which does not end by itself and answers nothing."""

import os
import signal


def train(run):
    print("begun", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        signal.pause()
