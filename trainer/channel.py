"""The trainer's end of a control socket to a child. What comes over it is hostile until checked."""

import array
import math
import select
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from protocol.errors import RemoteProtocolError
from trainer.inside import frames


def decode_control(body: bytes) -> dict[str, Any]:
    """The map in a control frame's body. Raises RemoteProtocolError, and nothing else, for any bytes."""
    try:
        return frames.decode(body, arrays=False)
    except frames.FrameError as error:
        raise RemoteProtocolError("frame", str(error)) from error


def number(message: Mapping[str, Any], key: str) -> float:
    """A finite number in a frame. Raises RemoteProtocolError where it is missing or something else."""
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise RemoteProtocolError("frame", f"{key}: expected a finite number, got {repr(value)[:80]}")
    return float(value)


def text(message: Mapping[str, Any], key: str) -> str:
    """Words in a frame, "" where there are none."""
    value = message.get(key)
    return value if isinstance(value, str) else ""


class Channel:
    """Control frames to and from one child, over our end of a socket pair."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = trio.socket.from_stdlib_socket(ours)

    @property
    def waiting(self) -> bool:
        """Whether something lies in the socket to be received."""
        return bool(select.select([self._socket], [], [], 0)[0])

    async def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Send a frame, with file descriptors if any. A child that has ended is no error here."""
        data = frames.encode(message, frames.MAX_CONTROL)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
        try:
            sent = await self._socket.sendmsg([data], rights)
            while sent < len(data):
                sent += await self._socket.send(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            return  # whoever waits for the answer hears of it

    async def receive(self) -> dict[str, Any] | None:
        """The next frame, or None where the child has hung up. Raises RemoteProtocolError."""
        header = await self._read(frames.HEADER_BYTES)
        if len(header) < frames.HEADER_BYTES:
            return None
        try:
            length = frames.body_length(header, frames.MAX_CONTROL)
        except frames.FrameError as error:
            raise RemoteProtocolError("frame", str(error)) from error
        body = await self._read(length)
        return decode_control(body) if len(body) == length else None

    async def _read(self, count: int) -> bytes:
        """``count`` bytes, or fewer where the child has hung up."""
        data = b""
        while len(data) < count:
            try:
                more = await self._socket.recv(count - len(data))
            except ConnectionResetError:
                return data
            if not more:
                return data
            data += more
        return data

    def close(self) -> None:
        self._socket.close()


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        return False
