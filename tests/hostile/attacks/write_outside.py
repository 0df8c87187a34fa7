"""Files next to the workspace, of the user, of the system, of the program, of Python, of ours."""

import contextlib
import os

from attacks import targets


def train(run):
    for folder in (*targets(run)["folders"], run.files, run.files / "..", run.workspace / ".."):
        for path in (os.path.join(folder, "written"), os.path.join(folder, "made", "written")):
            with contextlib.suppress(OSError):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                open(path, "w").write("x")
