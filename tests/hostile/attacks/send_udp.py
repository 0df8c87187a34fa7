"""Datagrams, and names that somebody else's server would be asked for."""

import contextlib
import socket

from attacks import targets


def train(run):
    at = targets(run)
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as one:
            one.sendto(b"x", (host, at["udp"]))
    with contextlib.suppress(OSError):
        socket.getaddrinfo("secret.example", 80)
