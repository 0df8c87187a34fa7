"""A server of the user that listens on a path."""

import contextlib
import socket

from attacks import targets


def train(run):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as one:
            one.connect(targets(run)["unix"])
            one.send(b"x")
