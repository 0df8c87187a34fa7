"""TCP in all its forms: IPv4, IPv6, MPTCP, and data with the first packet."""

import contextlib
import socket

from attacks import targets

MPTCP, FASTOPEN = 262, 0x20000000


def train(run):
    at = targets(run)
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for protocol in (0, MPTCP):
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM, protocol) as one:
                one.settimeout(1)
                one.connect((host, at["tcp"]))
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM, protocol) as one:
                one.settimeout(1)
                one.sendto(b"x", FASTOPEN, (host, at["tcp"]))
