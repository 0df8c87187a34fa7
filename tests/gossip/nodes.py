"""Nodes of real libp2p for tests."""

import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from gossip.libp2p_transport import Libp2pTransport, open_transport
from gossip.transport import Lenient, Stream
from protocol.errors import RemoteProtocolError
from tests.gossip.members import identity

LOCAL = "/ip4/127.0.0.1/tcp/0"
SECONDS = 10.0


class Noted(Lenient):
    """Notes who did what wrong."""

    def __init__(self) -> None:
        self.wrong: list[tuple[str, str]] = []

    def reject(self, error: RemoteProtocolError, peer: str, host: str = "") -> None:
        self.wrong.append((error.reason, peer or host))


def anything(forwarder: str, data: bytes) -> bool:
    return True


def free_port() -> int:
    """One that nobody has, below those that the kernel gives to whom does not ask for one."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Libp2pTransport, Libp2pTransport]]:
    """Two connected nodes, the second of which dialed."""
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        await two.connect(one.addresses()[0])
        yield one, two


async def alive(node: Libp2pTransport) -> None:
    """A stranger can connect to the node and is heard."""
    inbox = await node.subscribe("alive", anything)
    async with open_transport(identity(77)) as stranger:
        await stranger.subscribe("alive", anything)
        await stranger.connect(node.addresses()[0])
        with trio.fail_after(SECONDS):
            for number in range(100):
                await stranger.publish("alive", b"%d" % number)
                with trio.move_on_after(0.2):
                    await inbox.receive()
                    return
    raise AssertionError("nothing was heard")


async def sleep(stream: Stream) -> None:
    await trio.sleep_forever()
