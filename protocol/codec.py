"""Canonical, bounded msgpack: one value has one encoding, so a statement has one id.

Allowed are None, bool, int (64 bit), float (64 bit, finite), str, bytes, list and dict with str keys in
ascending order. Anything else, and any other encoding of the same value, is refused.
"""

import math
from typing import Any

import msgpack

from protocol.errors import LocalProtocolError, RemoteProtocolError

#: An envelope is at most this large: gossip stays small, larger things travel by stream.
MAX_ENVELOPE_BYTES = 64 * 1024
#: Our deepest statement has 4 levels; a bomb of nested arrays stops here.
MAX_DEPTH = 8
#: More elements than any statement of ours within MAX_ENVELOPE_BYTES needs in one container.
MAX_ITEMS = 4096


def encode(value: Any) -> bytes:
    """The one encoding of ``value``. Raises LocalProtocolError for what can't be said."""
    try:
        packed = msgpack.packb(_canonical(value, 0), use_bin_type=True, use_single_float=False)
    except (OverflowError, UnicodeEncodeError) as error:
        raise LocalProtocolError(f"cannot encode: {error}") from error
    assert isinstance(packed, bytes)
    return packed


def decode(data: bytes, max_bytes: int = MAX_ENVELOPE_BYTES, max_items: int = MAX_ITEMS) -> Any:
    """The value of which ``data`` is the encoding. Raises RemoteProtocolError for any other bytes."""
    if len(data) > max_bytes:
        raise RemoteProtocolError("oversize", f"{len(data)} bytes, at most {max_bytes}")
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_array_len=max_items,
            max_map_len=max_items,
            max_str_len=max_bytes,
            max_bin_len=max_bytes,
            max_ext_len=0,
        )
        again = encode(value)
    except (ValueError, RecursionError, msgpack.UnpackException, LocalProtocolError) as error:
        raise RemoteProtocolError("malformed", type(error).__name__) from error
    if again != data:
        raise RemoteProtocolError("malformed", "not the canonical encoding")
    return value


def _canonical(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise LocalProtocolError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise LocalProtocolError("not a finite number")
        return value
    if value is None or isinstance(value, bool | int | str | bytes):
        return value
    if isinstance(value, list | tuple):
        return [_canonical(item, depth + 1) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise LocalProtocolError("map keys must be strings")
        return {key: _canonical(value[key], depth + 1) for key in sorted(value)}
    raise LocalProtocolError(f"cannot encode a {type(value).__name__}")
