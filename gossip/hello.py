"""What a node asks a peer before it belongs to a swarm: who is there, and the program by its hash."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from gossip import wire
from gossip.transport import CLOSE_SECONDS, Stream, Transport
from protocol.errors import RemoteProtocolError
from protocol.manifest import MAX_PROGRAM_BYTES, unpack
from protocol.records import SWARM_ID_BYTES
from protocol.statements import MAX_NAME_BYTES
from protocol.text import one_line

HELLO = "/waggle/hello/1"
PROGRAM = "/waggle/program/1"


@dataclass(frozen=True)
class Hello:
    """What a peer says of its swarm. ``founder`` is a peer id. Untrusted, but bounded and printable."""

    swarm_id: bytes
    name: str
    founder: str | None
    version: str


async def hello(transport: Transport, peer: str) -> Hello:
    """Which swarm a connected peer belongs to. Raises RemoteProtocolError."""
    async with conversation(transport, peer, HELLO) as stream:
        _, swarm_id, name, founder, version = wire.checked(
            await wire.hear(stream, "hello"), str, bytes, str, str | None, str
        )
    if len(swarm_id) != SWARM_ID_BYTES:
        raise RemoteProtocolError("malformed", "swarm id")
    said = [None if word is None else one_line(word, MAX_NAME_BYTES) for word in (name, founder, version)]
    return Hello(swarm_id, said[0] or "", said[1], said[2] or "")


async def fetch_program(transport: Transport, peer: str, swarm_id: bytes) -> dict[str, bytes]:
    """The files of the program that makes ``swarm_id``. Raises RemoteProtocolError, also for any other."""
    async with conversation(transport, peer, PROGRAM) as stream:
        packed = await wire.receive_bytes(stream, MAX_PROGRAM_BYTES)
    if packed is None:
        raise RemoteProtocolError("program", "the peer has none to give")
    return await trio.to_thread.run_sync(unpack, packed, swarm_id)


@asynccontextmanager
async def conversation(transport: Transport, peer: str, protocol: str) -> AsyncIterator[Stream]:
    """A stream to a connected peer, closed in any case."""
    stream = await transport.open(peer, protocol)
    try:
        yield stream
    finally:
        with trio.move_on_after(CLOSE_SECONDS) as scope:
            scope.shield = True
            await stream.aclose()


def serve_hello(
    transport: Transport, said: Callable[[], Mapping[str, Any]], program: Callable[[], bytes | None]
) -> None:
    """Answer both questions; ``said`` has the fields of Hello, ``program`` is in the form of ``pack``."""

    async def answer_hello(stream: Stream) -> None:
        of = said()
        await wire.say(stream, "hello", of["swarm_id"], of["name"], of["founder"], of["version"])

    async def answer_program(stream: Stream) -> None:
        await wire.send_bytes(stream, program())

    transport.handle(HELLO, answer_hello)
    transport.handle(PROGRAM, answer_program)
