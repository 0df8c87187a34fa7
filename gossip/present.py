"""Being known: presences, which peers tell each other when they meet, and the swarm at a bounded pace.

Peers that meet tell each other as well which claims are in force: who comes while an experiment runs would not know
of it otherwise, and run the same.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from gossip import wire
from gossip.book import AddressBook
from gossip.gate import Gate
from gossip.hello import conversation
from gossip.live import Live
from gossip.transport import Stream, Transport
from protocol.records import Presence, Record

PRESENT = "/waggle/present/1"
#: A newcomer tells the swarm that it is here when it has met some of it.
GREET_SECONDS = 1.0
#: Gossip has a newcomer in its mesh some heartbeats after it came.
SETTLED_SECONDS = 5.0
#: Presences that are passed on to one who asks: enough to be well connected at once.
MOST_PASSED_ON = 64
#: Of claims so many bytes and the last one: with as many of the largest presences they fit one frame.
CLAIMS_BYTES = 32 * 1024
#: In so many bytes fit no more claims than this, as the smallest takes more than a hundred.
MOST_CLAIMS = 256


class Presences:
    """``own`` is our presence, signed; ``publish`` tells it to the swarm."""

    def __init__(
        self, transport: Transport, gate: Gate, live: Live, book: AddressBook, own: Callable[[], Record],
        publish: Callable[[Record], Awaitable[None]], rng: random.Random,
    ) -> None:  # fmt: skip
        self._transport = transport
        self._gate = gate
        self._live = live
        self._book = book
        self._own = own
        self._publish = publish
        self._rng = rng
        self._news = trio.Event()

    def hear(self, record: Record) -> None:
        """A presence or claim that was checked."""
        self._live.hear(record)
        if isinstance(record.statement, Presence):
            self._book.hear(record.peer_id, record.statement.addresses)

    def met(self) -> None:
        """A peer has come. Only who was alone tells the whole swarm: else presences would grow with connections."""
        if len(self._transport.peers()) == 1:
            self._news.set()

    async def ask(self, peer: str) -> None:
        """Show a peer that we are here, and hear of whom it knows."""
        with self._gate.counting(peer):
            async with conversation(self._transport, peer, PRESENT) as stream:
                await wire.say(stream, "present", [self._own().wire, *self._claims()])
                self._take(await wire.hear(stream, "present"), peer, MOST_PASSED_ON)

    async def answer(self, stream: Stream) -> None:
        """The other side."""
        with self._gate.counting(stream.peer):
            self._take(await wire.hear(stream, "present"), stream.peer, 1)
            records = self._live.present()
            some = self._rng.sample(records, min(MOST_PASSED_ON - 1, len(records)))
            said = [record.wire for record in (self._own(), *some)]
            await wire.say(stream, "present", [*said, *self._claims()])

    async def run(self) -> None:
        """Say that we are here: at the swarm's pace, and twice soon after we were alone."""
        again = False
        while True:
            wait = SETTLED_SECONDS if again else self._live.interval
            again = False
            with trio.move_on_after(wait * self._rng.uniform(0.75, 1.25)):
                await self._news.wait()
                self._news = trio.Event()
                again = True
            await trio.sleep(GREET_SECONDS * self._rng.uniform(0.5, 1.0))
            if self._transport.peers():
                await self._publish(self._own())

    def _claims(self) -> list[bytes]:
        """Claims in force, any of them where there are many."""
        records = self._live.claimed()
        self._rng.shuffle(records)
        said: list[bytes] = []
        while records and sum(map(len, said)) < CLAIMS_BYTES:
            said.append(records.pop().wire)
        return said

    def _take(self, frame: list[Any], peer: str, most: int) -> None:
        """So many presences that a peer passes on, and claims; the wrong ones apart. Raises RemoteProtocolError for
        what is none.
        """
        _, wires = wire.checked(frame, str, list)
        for data in wires[: most + MOST_CLAIMS]:
            with self._gate.counting(peer):
                record = self._gate.open(wire.checked([data], bytes)[0])
                if record.ephemeral:
                    self.hear(record)
