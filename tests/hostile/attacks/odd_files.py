"""Names that are no text, pipes, sockets, and links in a circle."""

import contextlib
import os
import socket


def train(run):
    with contextlib.suppress(OSError):
        os.mkfifo("pipe")
    os.symlink("circle-2", "circle-1")
    os.symlink("circle-1", "circle-2")
    os.symlink(".", "self")
    open(b"\xff\xfe\n\x1b[2J", "w").close()
    with contextlib.suppress(OSError):
        socket.socket(socket.AF_UNIX).bind("socket")
