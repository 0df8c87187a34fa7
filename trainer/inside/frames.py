"""Frames between the trainer, a candidate and its examiner: a 4-byte big-endian length, then a msgpack map.

The map has a string under ``"type"``. numpy arrays travel as msgpack ext type 1: one byte dtype (index into
``DTYPES``), one byte number of dimensions, each dimension as 4 bytes big-endian, then the elements in C
order, little-endian.

Everything that a candidate sends is hostile until checked: ``decode`` raises FrameError, and nothing else,
for any bytes.
"""

import socket
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    import numpy as np

#: Logits of a batch of windows fit: 16 windows x 256 tokens x 4096 words x 4 bytes.
MAX_FRAME = 64 * 1024 * 1024
#: Control frames carry words and numbers; the longest is a traceback's tail.
MAX_CONTROL = 64 * 1024
#: A list longer than this belongs into an array; msgpack reserves memory for what a header only announces.
MAX_ITEMS = 4096
MAX_DIMENSIONS = 4
#: As many as Linux passes in one message (SCM_MAX_FD).
MAX_FDS = 253
#: Append-only: the index is what travels.
DTYPES = ("uint8", "int32", "int64", "uint16", "float16", "float32", "float64", "bool")

_ARRAY = 1
_HEADER = struct.Struct(">I")
HEADER_BYTES = _HEADER.size


class FrameError(ValueError):
    """The other side sent something that is not a frame of ours; one short line."""


def encode(message: Mapping[str, Any], limit: int = MAX_FRAME) -> bytes:
    """Header and body. Raises FrameError where ``message`` can't be said or is over ``limit`` bytes."""
    try:
        body = msgpack.packb(message, default=_pack_array, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise FrameError(f"cannot send: {error}") from error
    assert isinstance(body, bytes)
    if len(body) > limit:
        raise FrameError(f"a frame of {len(body)} bytes, at most {limit}")
    return _HEADER.pack(len(body)) + body


def body_length(header: bytes, limit: int = MAX_FRAME) -> int:
    """How many bytes follow this header. Raises FrameError where they are over ``limit``."""
    length: int = _HEADER.unpack(header)[0]
    if length > limit:
        raise FrameError(f"a frame of {length} bytes, at most {limit}")
    return length


def decode(body: bytes, arrays: bool = True) -> dict[str, Any]:
    """The map in a frame's body. With ``arrays`` False one that holds arrays is refused; no numpy then."""
    try:
        message = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            ext_hook=_unpack_array if arrays else _refuse,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise FrameError(f"not a frame: {str(error)[:200] or type(error).__name__}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise FrameError("not a frame: expected a map with string keys")
    if not isinstance(message.get("type"), str):
        raise FrameError("not a frame: it has no type")
    return message


def send(sock: socket.socket, message: Mapping[str, Any], limit: int = MAX_FRAME) -> None:
    sock.sendall(encode(message, limit))


def receive(sock: socket.socket, limit: int = MAX_FRAME) -> dict[str, Any] | None:
    """The next frame, or None where the other side has closed."""
    header = _read(sock, HEADER_BYTES)
    if header is None:
        return None
    return _rest(sock, header, limit)


def receive_with_fds(
    sock: socket.socket, limit: int = MAX_CONTROL
) -> tuple[dict[str, Any] | None, list[int]]:
    """The next frame and the file descriptors that came with it."""
    header, fds, _, _ = socket.recv_fds(sock, HEADER_BYTES, MAX_FDS)
    if not header:
        return None, fds
    if len(header) < HEADER_BYTES:
        header += _read(sock, HEADER_BYTES - len(header)) or b""
    return _rest(sock, header, limit), fds


def _rest(sock: socket.socket, header: bytes, limit: int) -> dict[str, Any]:
    if len(header) < HEADER_BYTES:
        raise FrameError("closed within a frame")
    body = _read(sock, body_length(header, limit))
    if body is None:
        raise FrameError("closed within a frame")
    return decode(body)


def _read(sock: socket.socket, count: int) -> bytes | None:
    """Exactly ``count`` bytes, or None at the end of the stream."""
    data = bytearray()
    while len(data) < count:
        more = sock.recv(min(count - len(data), 1 << 20))
        if not more:
            if data:
                raise FrameError("closed within a frame")
            return None
        data += more
    return bytes(data)


def _pack_array(value: object) -> msgpack.ExtType:
    import numpy as np

    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.name not in DTYPES or value.ndim > MAX_DIMENSIONS:
        kind = f"array of {value.dtype}, {value.ndim} dimensions" if isinstance(value, np.ndarray) else ""
        raise TypeError(f"expected an array of {', '.join(DTYPES)}, got {kind or type(value).__name__}")
    head = struct.pack(f">BB{value.ndim}I", DTYPES.index(value.dtype.name), value.ndim, *value.shape)
    little = value.astype(value.dtype.newbyteorder("<"), order="C", copy=False)
    return msgpack.ExtType(_ARRAY, head + little.tobytes())


def _unpack_array(code: int, data: bytes) -> "np.ndarray[Any, Any]":
    import numpy as np

    if code != _ARRAY or len(data) < 2 or data[0] >= len(DTYPES) or data[1] > MAX_DIMENSIONS:
        raise FrameError("not an array")
    start = 2 + 4 * data[1]
    if len(data) < start:
        raise FrameError("an array's shape is cut")
    shape: Sequence[int] = struct.unpack(f">{data[1]}I", data[2:start])
    dtype = np.dtype(DTYPES[data[0]]).newbyteorder("<")
    count = 1
    for length in shape:
        count *= length
    if len(data) - start != count * dtype.itemsize:
        raise FrameError(f"an array of shape {tuple(shape)} does not have {len(data) - start} bytes")
    if dtype.kind == "b" and data[start:].strip(b"\0\1"):
        raise FrameError("an array of bool holds something else")
    # a copy: writable, and nobody else's memory
    return np.frombuffer(data, dtype, offset=start).reshape(shape).copy()


def _refuse(code: int, data: bytes) -> object:
    raise FrameError("no array was expected here")
