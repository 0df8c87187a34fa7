"""Name spaces of one's own, where one would be root again; mounts over what others read."""

import os
import time

from attacks import HELD_SECONDS, libc

USER, MOUNT, NET = 0x10000000, 0x20000, 0x40000000


def train(run):
    if os.fork() == 0:
        for flags in (USER | MOUNT, USER | NET, USER, MOUNT, NET):
            libc.unshare(flags)
        for path in (b"/usr", bytes(run.files), b"/tmp", b"/proc"):
            libc.mount(b"none", path, b"tmpfs", 0, None)
        libc.syscall(428, -100, b"/", 1)  # open_tree
        time.sleep(HELD_SECONDS)
        os._exit(0)
    os.wait()
