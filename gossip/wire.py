"""Frames over a stream: canonical msgpack arrays whose first field says what they are, and large bytes in
pages.

Each frame has its time limit, so a stream that moves may take long, and one that does not ends.
"""

from typing import Any

import trio

from gossip.transport import Stream
from protocol import codec
from protocol.errors import RemoteProtocolError

#: A page takes this long on 4 KB/s; who is slower is not there.
FRAME_SECONDS = 30.0
#: Large against what stands around it, small against memory.
PAGE_BYTES = 128 * 1024
#: The largest frame of ours: two full lists of ids, in sync.
MAX_FRAME_BYTES = 3 * PAGE_BYTES
#: A frame of one word, or of a word and a commit id: what waits for the rest of one holds no more memory.
SHORT_BYTES = 1024


async def say(stream: Stream, *fields: Any, seconds: float = FRAME_SECONDS) -> None:
    """Send one frame. Raises RemoteProtocolError("stream")."""
    await _send(stream, codec.encode(list(fields)), seconds)


async def hear(
    stream: Stream, *expected: str, seconds: float = FRAME_SECONDS, most: int = MAX_FRAME_BYTES
) -> list[Any]:
    """The next frame, of one of the expected sorts. Raises RemoteProtocolError."""
    fields = codec.decode(await _receive(stream, most, seconds), max_bytes=most)
    if not isinstance(fields, list) or not fields or fields[0] not in expected:
        raise RemoteProtocolError("malformed", f"expected {' or '.join(expected)}")
    return fields


async def send_bytes(stream: Stream, data: bytes | None) -> None:
    """Large bytes, in pages; None says that we have none."""
    await say(stream, "bytes", None if data is None else len(data))
    for start in range(0, len(data or b""), PAGE_BYTES):
        await _send(stream, (data or b"")[start : start + PAGE_BYTES])


async def receive_bytes(stream: Stream, max_bytes: int) -> bytes | None:
    """What ``send_bytes`` sent. Raises RemoteProtocolError."""
    _, size = checked(await hear(stream, "bytes"), str, int | None)
    if size is None:
        return None
    if not 0 <= size <= max_bytes:
        raise RemoteProtocolError("oversize", f"{size} bytes, at most {max_bytes}")
    data = bytearray()
    while len(data) < size:
        page = await _receive(stream, PAGE_BYTES)
        if not page or len(data) + len(page) > size:
            raise RemoteProtocolError("malformed", "a page of the wrong size")
        data += page
    return bytes(data)


def checked(fields: list[Any], *types: Any) -> list[Any]:
    """The fields, if they are as many and of these types. Raises RemoteProtocolError."""
    if len(fields) != len(types) or not all(map(isinstance, fields, types)):
        raise RemoteProtocolError("malformed", "a frame of the wrong shape")
    return fields


async def _send(stream: Stream, frame: bytes, seconds: float = FRAME_SECONDS) -> None:
    with trio.move_on_after(seconds) as scope:
        await stream.send(frame)
    if scope.cancelled_caught:
        raise RemoteProtocolError("stream", "the peer does not read")


async def _receive(stream: Stream, max_bytes: int, seconds: float = FRAME_SECONDS) -> bytes:
    frame = None
    with trio.move_on_after(seconds):
        frame = await stream.receive(max_bytes)
    if frame is None:
        raise RemoteProtocolError("stream", "the peer is silent")
    return frame
