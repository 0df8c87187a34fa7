"""Frames: what is sent arrives, and whatever else arrives is refused with one error."""

import socket
import struct
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protocol.errors import RemoteProtocolError
from trainer.channel import Channel, decode_control, number
from trainer.inside import frames

ARRAYS = st.sampled_from(frames.DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=10,
)
#: Bytes that look like a frame here and there: random ones alone are refused at the first.
NEARLY = st.builds(
    lambda message, at, byte: message[:at] + bytes([byte]) + message[at + 1 :],
    st.dictionaries(st.text(max_size=4), VALUES, max_size=3).map(
        lambda message: msgpack.packb({"type": "x", **message})
    ),
    st.integers(0, 60),
    st.integers(0, 255),
)


def body(message: dict[str, Any]) -> bytes:
    return frames.encode(message)[frames.HEADER_BYTES :]


@given(ARRAYS)
def test_arrays_arrive_as_they_were(array: np.ndarray) -> None:
    again = frames.decode(body({"type": "x", "array": array}))["array"]
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()
    assert again.flags.writeable


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_maps_arrive_as_they_were(message: dict[str, Any]) -> None:
    message = {**message, "type": "x"}
    assert repr(frames.decode(body(message))) == repr(message)


@given(st.binary(max_size=200) | NEARLY)
def test_any_bytes_are_a_frame_or_a_remote_protocol_error(data: bytes) -> None:
    try:
        message = decode_control(data)
    except RemoteProtocolError:
        return
    assert isinstance(message["type"], str)


@given(st.binary(max_size=200) | NEARLY)
def test_any_bytes_with_arrays_are_a_frame_or_a_frame_error(data: bytes) -> None:
    try:
        frames.decode(data)
    except frames.FrameError:
        return


@given(st.binary(max_size=60))
def test_any_array_is_one_or_a_frame_error(data: bytes) -> None:
    try:
        message = frames.decode(msgpack.packb({"type": "x", "array": msgpack.ExtType(1, data)}))
    except frames.FrameError:
        return
    assert message["array"].dtype.name in frames.DTYPES


@pytest.mark.parametrize(
    "value",
    [
        msgpack.packb({"type": "x", "a": msgpack.ExtType(1, b"\0\4" + struct.pack(">4I", *[2**31] * 4))}),
        msgpack.packb({"type": "x", "a": msgpack.ExtType(7, b"")}),
        b"\xdd\xff\xff\xff\xff" * 20,
        b"\x91" * 5000,
        b"\x81\xa4type\x01",
        msgpack.packb([1]),
        b"",
    ],
)
def test_bombs_are_refused(value: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_control(value)
    with pytest.raises(frames.FrameError):
        frames.decode(value)


def test_what_cannot_be_sent_is_said() -> None:
    for value in (object(), np.zeros(2, np.complex64), np.zeros((1,) * 5), 2**70):
        with pytest.raises(frames.FrameError, match="cannot send"):
            frames.encode({"type": "x", "value": value})
    with pytest.raises(frames.FrameError, match="at most 10"):
        frames.encode({"type": "x", "value": "long enough"}, limit=10)


@pytest.mark.parametrize("value", [None, "1", True, float("nan"), float("inf"), 10**400])
def test_a_number_is_finite(value: object) -> None:
    with pytest.raises(RemoteProtocolError):
        number({"metric": value}, "metric")


async def test_a_channel_reads_frames_in_parts_and_ends_in_none() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(ours)
        data = frames.encode({"type": "a"}) + frames.encode({"type": "b"})
        theirs.sendall(data[:-1])
        assert await channel.receive() == {"type": "a"}
        theirs.close()
        assert await channel.receive() is None
        await channel.send({"type": "nobody hears this"})
        channel.close()


async def test_a_channel_refuses_a_frame_that_is_too_long() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(ours)
        theirs.sendall(b"\xff\xff\xff\xff")
        with pytest.raises(RemoteProtocolError, match="at most 65536"):
            await channel.receive()
        channel.close()
