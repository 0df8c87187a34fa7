"""Owners, rights, times and labels of files outside, which few sandboxes look at."""

import contextlib
import os

from attacks import targets


def train(run):
    at = targets(run)
    for path in (*at["files"], *at["folders"]):
        for attempt in (
            lambda path=path: os.chmod(path, 0o777),
            lambda path=path: os.chown(path, 12345, 12345),
            lambda path=path: os.utime(path, (1, 1)),
            lambda path=path: os.setxattr(path, "user.waggle", b"x"),
        ):
            with contextlib.suppress(OSError):
                attempt()
