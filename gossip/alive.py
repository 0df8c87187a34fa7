"""Whether a connected peer still lives: TCP alone notices a frozen machine or a cut cable after many minutes.

On a stream that stays open both sides say that they are alive, unasked: behind much else on a slow link, a question
would wait. Whatever comes from a peer shows that it lives; of which nothing comes at all is parted from.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf

import trio

from gossip import wire
from gossip.hello import conversation
from gossip.transport import Stream, Transport
from protocol.errors import RemoteProtocolError

ALIVE = "/waggle/alive/1"
#: To say it costs both sides under a millisecond.
SAY_SECONDS = 5.0
#: Under 15 s; a node that computes on every core still says something within this.
SILENT_SECONDS = 14.0
#: Between two looks at what was said, so that a flood waits in the network.
READ_SECONDS = SAY_SECONDS / 2

GiveUp = Callable[[str], Awaitable[None]]


class Alive:
    """``give_up`` is called with the peer id of a connected peer that was silent for too long, ``on_wrong`` with what
    one says that is wrong.
    """

    def __init__(
        self, transport: Transport, give_up: GiveUp, on_wrong: Callable[[RemoteProtocolError, str], None]
    ) -> None:
        self._transport = transport
        self._give_up = give_up
        self._on_wrong = on_wrong

    async def watch(self, peer: str) -> None:
        """Until a peer is gone. One that does not speak the protocol is left alone."""
        with suppress(RemoteProtocolError):
            async with conversation(self._transport, peer, ALIVE) as stream:
                await self.answer(stream)

    async def answer(self, stream: Stream) -> None:
        """Either side of such a stream, until it ends."""
        silent = False
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            nursery.start_soon(self._until_broken, _say, stream, scope)
            nursery.start_soon(self._until_broken, _hear, stream, scope)
            while (left := self._left(stream.peer)) > 0:  # noqa: ASYNC110  # an event for each byte would cost more
                await trio.sleep(left)
            silent = True
            scope.cancel()
        if silent:
            await self._give_up(stream.peer)

    def _left(self, peer: str) -> float:
        return self._transport.heard(peer) + SILENT_SECONDS - trio.current_time()

    async def _until_broken(
        self, act: Callable[[Stream], Awaitable[None]], stream: Stream, scope: trio.CancelScope
    ) -> None:
        """Without limits of time, which ``heard`` sets: a slow peer is not a broken one."""
        try:
            await act(stream)
        except RemoteProtocolError as error:
            if not scope.cancel_called:  # where one way breaks, so does the other
                self._on_wrong(error, stream.peer)
        scope.cancel()


async def _say(stream: Stream) -> None:
    while True:
        await wire.say(stream, "alive", seconds=inf)
        await trio.sleep(SAY_SECONDS)


async def _hear(stream: Stream) -> None:
    while True:
        await wire.hear(stream, "alive", seconds=inf, most=wire.SHORT_BYTES)
        await trio.sleep(READ_SECONDS)
