"""Frames over a libp2p stream."""

import struct
from contextlib import suppress
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError

from gossip.endings import finish
from protocol.errors import RemoteProtocolError

#: ``read_exactly`` gives up after 101 reads, and one large write holds the connection: so in pieces.
CHUNK = 256 * 1024
READ_BYTES = 64 * 1024

_LENGTH = struct.Struct(">I")


class Libp2pStream:
    """The transport's ``Stream``: four bytes of length, big-endian, and so many bytes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._read = bytearray()

    @property
    def peer(self) -> str:
        return str(self._stream.muxed_conn.peer_id)

    async def send(self, frame: bytes) -> None:
        data = memoryview(_LENGTH.pack(len(frame)) + frame)
        try:
            for start in range(0, len(data), CHUNK):
                await self._stream.write(bytes(data[start : start + CHUNK]))
        except (BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise RemoteProtocolError("stream", f"closed by the peer: {error}") from None

    async def receive(self, max_bytes: int) -> bytes:
        await self._fill(_LENGTH.size)
        (size,) = _LENGTH.unpack(self._take(_LENGTH.size))
        if size > max_bytes:
            raise RemoteProtocolError("oversize", f"a frame of {size} bytes, at most {max_bytes}")
        await self._fill(size)
        return self._take(size)

    async def aclose(self) -> None:
        with suppress(BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            await finish(self._stream)

    async def _fill(self, size: int) -> None:
        while len(self._read) < size:
            try:
                piece = await self._stream.read(READ_BYTES)
            except (BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise RemoteProtocolError("stream", f"closed by the peer: {error}") from None
            if not piece:
                raise RemoteProtocolError("stream", "closed by the peer")
            self._read += piece

    def _take(self, size: int) -> bytes:
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken
