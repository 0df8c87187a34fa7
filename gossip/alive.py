"""Whether a connected peer still answers: TCP alone notices a frozen machine or a cut cable after many minutes.

Who dialed asks over one stream that stays open; who was dialed notices when the questions stop. Either side then
ends the connection.
"""

from collections.abc import Awaitable, Callable

import trio

from gossip import wire
from gossip.hello import conversation
from gossip.transport import Stream, Transport
from protocol.errors import RemoteProtocolError

ALIVE = "/waggle/alive/1"
#: A question costs both sides under a millisecond.
ASK_SECONDS = 5.0
#: Together with ASK_SECONDS under 15 s; a node that computes on every core still answers within a few.
ANSWER_SECONDS = 9.0

GiveUp = Callable[[str], Awaitable[None]]


class Alive:
    """``give_up`` is called with the peer id of a connected peer that was silent for too long."""

    def __init__(self, transport: Transport, give_up: GiveUp) -> None:
        self._transport = transport
        self._give_up = give_up

    async def watch(self, peer: str) -> None:
        """Ask a peer until it is gone. One that does not speak the protocol is left alone."""
        silent = False
        try:
            async with conversation(self._transport, peer, ALIVE) as stream:
                while not silent:
                    await trio.sleep(ASK_SECONDS)
                    with trio.move_on_after(ANSWER_SECONDS) as limit:
                        await wire.say(stream, "alive?")
                        await wire.hear(stream, "alive")
                    silent = limit.cancelled_caught
        except RemoteProtocolError:
            return  # the connection has ended, or the protocol is not spoken
        await self._give_up(peer)

    async def answer(self, stream: Stream) -> None:
        """Serve the other side."""
        while True:
            with trio.move_on_after(ASK_SECONDS + ANSWER_SECONDS) as limit:
                await wire.hear(stream, "alive?")
            if limit.cancelled_caught:
                await self._give_up(stream.peer)
                return
            await wire.say(stream, "alive")
