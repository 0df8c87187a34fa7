"""A server on the user's machine, for whoever is outside."""

import contextlib
import socket
import time

from attacks import HELD_SECONDS


def train(run):
    held = []
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for bind in (True, False):
            with contextlib.suppress(OSError):
                one = socket.socket(family)
                held.append(one)
                if bind:
                    one.bind((host, 0))
                one.listen()
    time.sleep(HELD_SECONDS if held else 0)
