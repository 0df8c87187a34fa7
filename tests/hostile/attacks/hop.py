"""A process that lives in its children: each ends as soon as its own child is there."""

import os
import time


def train(run):
    if os.fork() == 0:
        os.setsid()
        while True:
            time.sleep(0.001)
            if os.fork():
                os._exit(0)
