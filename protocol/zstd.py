"""Zstandard with a bound on what comes out, so that a small bomb can't fill the memory."""

import io

import zstandard

from protocol.errors import RemoteProtocolError

#: Our compressor's window at LEVEL never passes this; a frame that asks for more is not ours.
MAX_WINDOW_BYTES = 2**23
#: Slow enough to be small, fast enough for a program's whole text.
LEVEL = 10


def compress(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL).compress(data)


def decompress(data: bytes, most: int) -> bytes:
    """What ``data`` holds, at most ``most`` bytes. Raises RemoteProtocolError for more, or for other bytes."""
    try:
        with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(
            io.BytesIO(data), read_across_frames=False
        ) as reader:
            out = reader.read(most + 1)
    except zstandard.ZstdError as error:
        raise RemoteProtocolError("malformed", "zstd") from error
    if len(out) > most:
        raise RemoteProtocolError("oversize", f"decompresses to more than {most} bytes")
    return out
