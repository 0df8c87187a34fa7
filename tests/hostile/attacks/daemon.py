"""Processes that leave the group, the session and their parent, and are deaf to signals."""

import os
import signal
import time


def train(run):
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in range(1, 32):
                    if number not in (signal.SIGKILL, signal.SIGSTOP):
                        signal.signal(number, signal.SIG_IGN)
                while True:
                    time.sleep(60)
            os._exit(0)
