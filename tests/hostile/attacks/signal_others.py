"""End, stop and queue signals to a process of the user and to the node, by every call."""

import contextlib
import os
import signal

from attacks import libc, targets


def train(run):
    at = targets(run)
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(os.pidfd_open(at["victim"]), signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
        with contextlib.suppress(OSError):
            os.kill(at["victim"], number)
        libc.syscall(234, at["victim"], at["victim"], number)  # tgkill
        libc.syscall(200, at["victim"], number)  # tkill
        libc.sigqueue(at["victim"], number, 0)
    with contextlib.suppress(OSError):
        os.kill(at["node"], signal.SIGWINCH)  # nobody is hurt where it arrives
