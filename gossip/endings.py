"""Ending streams and connections of libp2p so that they have ended, each with the trouble of version 0.8.1 that it
is for.
"""

from contextlib import suppress
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError

from gossip.connections import raw_of
from gossip.transport import CLOSE_SECONDS


async def finish(stream: Any) -> None:
    """Close a stream of which we read no more. What we wrote still arrives: the other side is not told of more."""
    try:
        await stream.close()
    finally:
        await forget(stream)


async def forget(stream: Any) -> None:
    """Drop what came on a stream, and what comes yet.

    Upstream: a stream that the other side never ends is kept for as long as its connection, with all that comes on it.
    What comes on one that is not known is dropped.
    """
    muxed = stream.muxed_stream
    with trio.move_on_after(CLOSE_SECONDS) as scope:
        scope.shield = True
        async with muxed.conn.streams_lock:
            known = muxed.conn.streams.get(muxed.stream_id) is muxed  # the number may be another's by now
            if known:
                muxed.conn.stream_buffers[muxed.stream_id].clear()
            muxed.conn._finalize_stream_locked(muxed, fully_closed=known)


async def reset(stream: Any) -> None:
    """End a stream both ways, for whoever reads it too.

    Upstream: who reads a yamux stream is not woken when our own side ends it, and waits until its connection ends. The
    connection through a circuit is read from a stream of the one to the relay: each call left its tasks behind.
    """
    muxed = stream.muxed_stream
    reading = muxed.conn.stream_events.get(muxed.stream_id)
    muxed.recv_closed = muxed.reset_received = True
    if reading is not None:
        reading.set()  # before the end: who is woken later would put its own event back, for ever
    await stream.reset()


async def hang_up(connection: Any) -> None:
    """End a connection, and tell that it has ended.

    Upstream: a peer that takes nothing any more is waited for, to take the last word; where that is given up, its
    connection is served on and nobody sees it. And a peer that dials again meanwhile is forgotten with its old ones.
    """
    with trio.move_on_after(CLOSE_SECONDS) as scope, suppress(BaseLibp2pError, OSError):
        scope.shield = True
        await connection.close()
    if scope.cancelled_caught:
        with trio.move_on_after(CLOSE_SECONDS) as scope, suppress(BaseLibp2pError, OSError):
            scope.shield = True
            await raw_of(connection.muxed_conn).close()
            await connection._cleanup()


async def end_at_once(muxed: Any) -> None:
    """End a connection without a word, and drop what came over it."""
    with suppress(BaseLibp2pError, OSError):
        await raw_of(muxed).close()
    for buffer in muxed.stream_buffers.values():
        buffer.clear()
