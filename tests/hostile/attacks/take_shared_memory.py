"""Memory that no process is charged for: memfd, System V, POSIX queues, /dev/shm."""

import contextlib
import ctypes
import os
import time

from attacks import libc

PIECE = 64 << 20


def train(run):
    print("begun", flush=True)
    held = []
    libc.shmat.restype = ctypes.c_void_p
    for number in range(40):
        with contextlib.suppress(OSError):
            held.append(os.memfd_create(f"piece-{number}"))
            os.write(held[-1], b"x" * PIECE)
        segment = libc.shmget(0, ctypes.c_size_t(PIECE), 0o1600)
        if segment >= 0:
            ctypes.memset(libc.shmat(segment, None, 0), 1, PIECE)
            libc.shmctl(segment, 0, None)
        with contextlib.suppress(OSError), open(f"/dev/shm/piece-{number}", "wb") as file:
            file.write(b"x" * PIECE)
    time.sleep(0.3)
