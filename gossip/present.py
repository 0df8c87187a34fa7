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
from gossip.gate import Budgets, Gate
from gossip.hello import conversation
from gossip.live import Live
from gossip.sync import TURN_RECORDS
from gossip.transport import Stream, Transport
from protocol.errors import RemoteProtocolError
from protocol.records import Claim, Presence, Record

PRESENT = "/waggle/present/1"
#: A newcomer tells the swarm that it is here when it has met some of it.
GREET_SECONDS = 1.0
#: Gossip has a newcomer in its mesh some heartbeats after it came.
SETTLED_SECONDS = 5.0
#: Presences that are passed on to one who asks: enough to be well connected at once.
MOST_PASSED_ON = 64
#: In so many bytes fit no more claims than this, as the smallest takes more than a hundred.
MOST_CLAIMS = 256
#: So many bytes of each and the last one: both fit one frame.
PRESENCES_BYTES, CLAIMS_BYTES = 256 * 1024, 32 * 1024
#: A peer that comes and goes asks at each time; each answer costs us some hundred signatures at most.
ASKED_A_SECOND, ASKED_AT_ONCE = 0.1, 5.0


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
        self._asked = Budgets(ASKED_A_SECOND, ASKED_AT_ONCE)
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
                await self._take(await wire.hear(stream, "present"), peer, MOST_PASSED_ON)

    async def answer(self, stream: Stream) -> None:
        """The other side."""
        peer = stream.peer
        if self._gate.shuts_out(peer):
            return
        if not self._asked.spend(peer, round(1000 * trio.current_time())):
            raise RemoteProtocolError("quota", "too many questions who is here")
        await self._take(await wire.hear(stream, "present"), peer, 1)
        some = self._within(self._live.present(), MOST_PASSED_ON - 1, PRESENCES_BYTES)
        await wire.say(stream, "present", [self._own().wire, *some, *self._claims()])

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
        return self._within(self._live.claimed(), MOST_CLAIMS, CLAIMS_BYTES)

    def _within(self, records: list[Record], most: int, most_bytes: int) -> list[bytes]:
        """So many of them, and so many bytes and the last one; any where there are more."""
        said: list[bytes] = []
        for record in self._rng.sample(records, min(most, len(records))):
            if sum(map(len, said)) > most_bytes:
                break
            said.append(record.wire)
        return said

    async def _take(self, frame: list[Any], peer: str, most: int) -> None:
        """So many presences that a peer passes on, and claims; the wrong ones apart. Raises RemoteProtocolError for
        what is none.
        """
        _, wires = wire.checked(frame, str, list)
        room = {Presence: most, Claim: MOST_CLAIMS}
        for number, data in enumerate(wires[: most + MOST_CLAIMS]):
            with self._gate.counting(peer):
                record = self._gate.open(wire.checked([data], bytes)[0], passed_on=True)
                kind = type(record.statement)
                if room.get(kind, 0):
                    room[kind] -= 1
                    self.hear(record)
            if self._gate.shuts_out(peer):
                return
            if number % TURN_RECORDS == 0:
                await trio.lowlevel.checkpoint()
