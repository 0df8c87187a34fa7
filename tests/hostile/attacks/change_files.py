"""Overwrite, cut, delete, rename and replace files that are there."""

import contextlib
import os

from attacks import targets


def train(run):
    for path in targets(run)["files"]:
        for attempt in (
            lambda path=path: open(path, "a").write("changed"),
            lambda path=path: os.truncate(path, 0),
            lambda path=path: os.rename(path, path + ".gone"),
            lambda path=path: os.replace(run.files / "runner.py", path),
            lambda path=path: os.unlink(path),
        ):
            with contextlib.suppress(OSError):
                attempt()
