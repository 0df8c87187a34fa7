"""Sleep on past every limit, deaf to all signals that can be ignored."""

import signal
import time


def train(run):
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
    print("begun", flush=True)
    time.sleep(600)
