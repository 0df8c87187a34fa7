"""A socket of every family and type but Unix: vsock, netlink, packet, raw, Bluetooth, crypto."""

import contextlib
import socket
import time

from attacks import HELD_SECONDS


def train(run):
    held = []
    for family in set(range(46)) - {socket.AF_UNIX}:
        for kind in (1, 2, 3, 5):
            with contextlib.suppress(OSError):
                held.append(socket.socket(family, kind))
    time.sleep(HELD_SECONDS if held else 0)
