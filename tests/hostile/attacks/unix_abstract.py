"""A server of the user that listens on a name without a path."""

import contextlib
import socket

from attacks import targets


def train(run):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.connect("\0" + targets(run)["abstract"])
        one.send(b"x")
