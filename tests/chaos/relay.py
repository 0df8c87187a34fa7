"""Frames carried between two network devices, late and not always in their order: what netem would do."""

import heapq
import random
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from types import TracebackType
from typing import Self

#: linux/if_packet.h, linux/if_ether.h
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING, ETH_P_ALL = 263, 15, 23, 3
#: The largest that TCP hands to a device at once, and the header of PACKET_VNET_HDR.
FRAME_BYTES = 66 * 1024
BUFFER_BYTES = 4 << 20
IDLE_SECONDS = 0.05


class Port:
    """All that arrives at a device of this namespace. Checksums and segments are left to the kernel's devices
    (PACKET_VNET_HDR), so that frames pass as TCP made them.
    """

    def __init__(self, device: str) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.socket.bind((device, ETH_P_ALL))
        self.socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


@contextmanager
def relay(pairs: Sequence[tuple[Port, Port]], seconds: float, jitter: float) -> Iterator[None]:
    """Carry what arrives at one port of each pair to the other, while the block runs."""
    end = threading.Event()
    carrier = threading.Thread(target=_carry, args=(pairs, seconds, jitter, end), name="relay")
    carrier.start()
    try:
        yield
    finally:
        end.set()
        carrier.join()


def _carry(pairs: Sequence[tuple[Port, Port]], seconds: float, jitter: float, end: threading.Event) -> None:
    held: list[tuple[float, int, socket.socket, bytes]] = []
    order, rng = count(), random.Random(0)
    with selectors.DefaultSelector() as selector:
        for one, other in pairs:
            selector.register(one.socket, selectors.EVENT_READ, other.socket)
            selector.register(other.socket, selectors.EVENT_READ, one.socket)
        while not end.is_set():
            wait = held[0][0] - time.monotonic() if held else IDLE_SECONDS
            for key, _ in selector.select(min(max(0.0, wait), IDLE_SECONDS)):
                due = time.monotonic() + seconds + rng.uniform(-jitter, jitter)
                with suppress(OSError):  # a device that goes down
                    frame = key.fileobj.recv(FRAME_BYTES)  # type: ignore[union-attr]  # we registered sockets
                    heapq.heappush(held, (due, next(order), key.data, frame))
            while held and held[0][0] <= time.monotonic():
                _, _, to, frame = heapq.heappop(held)
                with suppress(OSError):  # a full queue: the network may lose what it carries
                    to.send(frame)
