"""One node's part in its swarm: it hears and passes on records, keeps in step with peers, finds them and is
found.

Gossip may lose anything; sync brings it. Every loop here paces itself, and no peer can end one.
"""

import logging
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import trio
from trio_typing import TaskStatus

from gossip import wire
from gossip.alive import ALIVE, Alive
from gossip.book import ENOUGH, PLENTY, AddressBook
from gossip.fetch import fetch_asset, serve_assets
from gossip.gate import MAX_EPHEMERAL_BYTES, STRIKES, Gate
from gossip.hello import conversation, serve_hello
from gossip.live import CLAIMS_A_SECOND, RESULTS_A_SECOND, Live
from gossip.meter import ANSWERED, ASKED, BY_GOSSIP, BY_SYNC, Meter, Unmetered, metered
from gossip.present import PRESENT, SETTLED_SECONDS, Presences
from gossip.slots import Slots
from gossip.sync import SYNC, Answerer, Asker, Held
from gossip.transport import ConnectError, Inbox, Stream, Transport
from protocol.errors import RemoteProtocolError
from protocol.identity import Identity
from protocol.records import Claim, Presence, Record, Result, seal

log = logging.getLogger(__name__)

#: Longer than a burst of gossip takes, short against an experiment.
SYNC_SECONDS = 60.0
#: A newcomer's whole ledger on a slow line; who takes longer begins again where it stopped.
SESSION_SECONDS = 600.0
#: A session that is cut off there has been of use if it brought so many new records: one a second, where each takes
#: some hundred bytes. A peer whose sessions are of none is parted from, as it keeps others from being asked.
LEAST_RECORDS = 600
#: Syncs that wait for their turn; more peers than that are asked by the minute.
MOST_WAITING = 64
#: Between two syncs for records whose parent is missing: the one that runs may bring the others' parents too.
PARENT_SECONDS = 2.0
#: Own messages at most this fast: a peer's queue of them holds some hundreds.
PUBLISH_SECONDS = 0.004
#: A peer that failed so many syncs in a row is gone, or deaf: the network alone does not notice. One that asks and
#: stalls as many is shut out, as it would take the place again.
MOST_FAILED = 2
DIAL_SECONDS = 1.0
#: Syncs and dials at a time, so that a slow peer holds up few others.
WORKERS = 2
#: Well connected, we still dial one more peer this often and give up another: else two halves of a swarm,
#: each well connected, would never meet again.
EXPLORE_SECONDS = 60.0


class Store(Protocol):
    """What a swarm asks of its node."""

    def ids(self) -> Collection[str]: ...
    def get(self, record_id: str) -> bytes | None: ...
    async def ingest(self, record: Record, source: str) -> bool:
        """Keep a record that a peer gave; True if it is new. Raises RemoteProtocolError."""
        ...

    def asset(self, commit: str) -> bytes | None: ...
    def program(self) -> bytes | None: ...
    def hello(self) -> Mapping[str, Any]: ...


class Swarm:
    """``known`` are addresses to begin with: the user's and remembered ones; what may be remembered is in
    ``transport.peers`` and ``transport.peer_address``. ``clock_ms`` is milliseconds since 1970.
    """

    def __init__(
        self,
        transport: Transport,
        store: Store,
        swarm_id: bytes,
        identity: Identity,
        *,
        clock_ms: Callable[[], int],
        on_rejected: Callable[[str, str], None],
        presence: Callable[[], Presence],
        rng: random.Random,
        known: Iterable[str] = (),
        meter: Meter | None = None,
    ) -> None:
        self._transport = transport
        self._store = store
        self._swarm_id = swarm_id
        self._identity = identity
        self._rng = rng
        self._clock_ms = clock_ms
        self._meter = meter or Unmetered()
        self._topic = f"waggle/{swarm_id.hex()}"
        self._held = Held(store.ids, store.get)
        self._gate = Gate(
            swarm_id, clock_ms, on_rejected, host_of=transport.host, on_shut_out=self._want_rid_of,
            holds=lambda one: one in store.ids(),
        )  # fmt: skip
        self._to_part, self._partings = trio.open_memory_channel[str](MOST_WAITING)
        self._live = Live(identity.public_key, clock_ms)
        self._alive = Alive(transport, self._give_up, self._gate.reject)
        self._book = AddressBook(transport.peer_id, rng)
        self._book.keep(known)
        self._presences = Presences(
            transport, self._gate, self._live, self._book, lambda: seal(identity, swarm_id, presence()),
            self.publish, rng,
        )  # fmt: skip
        self._served = Slots()
        self._to_sync, self._syncs = trio.open_memory_channel[str](MOST_WAITING)
        self._waiting: set[str] = set()
        self._failed: Counter[str] = Counter()
        self._parent_due = 0.0
        #: set once all that some peer knew has come, claims in force among it
        self.in_step = trio.Event()

    # what a node uses

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled; started when peers can reach us."""
        serve_hello(self._transport, self._store.hello, self._store.program)
        serve_assets(self._transport, self._store.asset)
        self._transport.handle(SYNC, self._answer_sync)
        self._transport.handle(PRESENT, self._presences.answer)
        self._transport.handle(ALIVE, self._alive.answer)
        self._transport.judged_by(self._gate)
        self._transport.relay_for(lambda peer: self._live.knows(peer) and not self._gate.shuts_out(peer))
        inbox = await self._transport.subscribe(self._topic, self._gate.admit)
        async with trio.open_nursery() as nursery:
            loops = (self._greet, self._sync_now_and_then, self._presences.run, self._explore, self._part)
            for loop in (*loops, *WORKERS * (self._sync, self._dial)):
                nursery.start_soon(loop)
            nursery.start_soon(self._pump, inbox)
            task_status.started()

    async def publish(self, record: Record) -> None:
        """Tell the swarm at once. What is in the store and not published still reaches all, by sync."""
        self._live.hear_result(record)
        await self._transport.publish(self._topic, record.wire)
        self._meter.published()
        await trio.sleep(PUBLISH_SECONDS)

    async def mention(self, record: Record, budget_seconds: float) -> None:
        """Tell a result that nothing depends on, as each node makes one in a budget; in a large swarm not every time:
        the others come by sync.
        """
        self._live.hear_result(record)
        if self._rng.random() < self._live.share(RESULTS_A_SECOND, budget_seconds):
            await self.publish(record)

    async def claim(self, claim: Claim) -> None:
        """Tell what we are about to run; in a large swarm not every time, but to whom we meet. Tunables that would
        make it larger than what is heard are left out.
        """
        record = seal(self._identity, self._swarm_id, claim)
        if len(record.wire) > MAX_EPHEMERAL_BYTES:
            record = seal(self._identity, self._swarm_id, replace(claim, tunables={}))
        self._live.hear(record)
        if self._rng.random() < self._live.share(CLAIMS_A_SECOND, claim.budget_seconds):
            await self.publish(record)

    def claims(self) -> list[tuple[bytes, Claim]]:
        """Others' claims in force."""
        return self._live.claims()

    def presences(self) -> dict[str, Presence]:
        """By peer id, of others heard lately."""
        return self._live.presences()

    def mesh(self) -> int:
        """How many peers gossip is passed on to at once; the others hear of it from them."""
        return self._transport.mesh(self._topic)

    def hint(self, address: str) -> None:
        """A peer of this swarm may be there. Raises ConnectError for what is no address."""
        self._book.hint(address)

    async def fetch_asset(self, commit: str, check: Callable[[bytes], bool]) -> bytes | None:
        """The asset of a commit from some peer, None where nobody asked has the right one."""
        return await fetch_asset(self._transport, self._rng, commit, check, self._gate.reject)

    # parting

    def _want_rid_of(self, peer: str) -> None:
        with suppress(trio.WouldBlock):  # it is heard no more, connected or not
            self._to_part.send_nowait(peer)

    async def _part(self) -> None:
        """End connections to those that are shut out; who comes back is sent away on arrival."""
        async for peer in self._partings:
            if peer in self._transport.peers():
                log.warning("parting from %s, which sent too much that is wrong", peer)
                await self._transport.disconnect(peer)

    # hearing

    async def _pump(self, inbox: Inbox) -> None:
        async for forwarder, data in inbox:
            with suppress(RemoteProtocolError):  # counted where it is raised
                record = self._gate.open(data)
                if record.ephemeral:
                    self._presences.hear(record)
                elif await self._ingest(record, forwarder, BY_GOSSIP):
                    self._seek_parent(record, forwarder)

    async def _ingest(self, record: Record, peer: str, way: str) -> bool:
        """Keep a record that was opened. Raises RemoteProtocolError, counted."""
        try:
            new = await self._store.ingest(record, peer)
        except RemoteProtocolError as error:
            self._gate.refuse(record.id, error)
            self._gate.reject(error, peer)
            raise
        self._live.hear_result(record)
        if new and record.statement is not None:
            self._meter.came(way, (self._clock_ms() - record.statement.created_ms) / 1000)
        return new

    async def _take(self, data: bytes, wanted: set[str], peer: str) -> bool:
        """A record that came by sync, one of those ``wanted``; False if it is wrong or held. Raises
        RemoteProtocolError where it was not asked for: one and the same could be sent for ever.
        """
        try:
            record = self._gate.open(data)
            if record.ephemeral:
                raise RemoteProtocolError("sync", "presences and claims are not synced")
        except RemoteProtocolError as error:
            self._gate.reject(error, peer)
            if self._gate.shuts_out(peer):
                raise RemoteProtocolError("sync", "too many wrong records") from None
            return False
        if record.id not in wanted:
            raise RemoteProtocolError("sync", "a record that was not asked for")
        wanted.remove(record.id)
        with suppress(RemoteProtocolError):
            return await self._ingest(record, peer, BY_SYNC)
        return False

    def _seek_parent(self, record: Record, peer: str) -> None:
        """Without its parent a result can't be built on: whoever passed it on has what leads to it."""
        result = record.statement
        if not isinstance(result, Result) or result.parent is None or trio.current_time() < self._parent_due:
            return
        if self._store.asset(result.parent) is None:
            self._parent_due = trio.current_time() + PARENT_SECONDS
            self._want_sync(peer)

    # keeping in step

    def _want_sync(self, peer: str) -> None:
        if peer not in self._waiting and not self._gate.shuts_out(peer):
            with suppress(trio.WouldBlock):  # so many wait that it will be asked by the minute
                self._to_sync.send_nowait(peer)
                self._waiting.add(peer)

    async def _sync_now_and_then(self) -> None:
        while True:
            await trio.sleep(SYNC_SECONDS * self._rng.uniform(0.75, 1.25))
            self._live.sweep()
            peers = self._transport.peers()
            if peers:
                self._want_sync(self._rng.choice(peers))

    async def _sync(self) -> None:
        """Few at a time: the next peer is asked only for what the ones before it lacked."""
        async for peer in self._syncs:
            self._waiting.discard(peer)
            if peer in self._transport.peers():
                await self._sync_with(peer)

    async def _sync_with(self, peer: str) -> None:
        """Exchange all that is missing, and part from a peer that is not worth its connection."""
        served = None
        try:
            served = await self._exchange(peer)
        except RemoteProtocolError as error:
            log.debug("sync with %s: %s", peer, error)
            self._gate.reject(error, peer)
            if error.reason == "swarm":
                self._gate.shut_out(peer)
                self._book.drop(peer)
        if served:
            self.in_step.set()
        if served is not None:
            del self._failed[peer]
            return
        self._failed[peer] += 1
        if self._failed[peer] >= MOST_FAILED:
            del self._failed[peer]
            await self._transport.disconnect(peer)

    async def _exchange(self, peer: str) -> bool | None:
        """Whether all that the peer knew has come: not if busy; None if it stalled. Raises RemoteProtocolError."""
        served, received = False, 0
        with trio.move_on_after(SESSION_SECONDS) as limit:
            async with conversation(self._transport, peer, SYNC) as stream:
                with metered(self._meter, ASKED, stream) as counted:
                    take = partial(self._take, peer=peer)
                    asker = Asker(counted, self._held, self._swarm_id, take, self._gate.refused)
                    try:
                        served = await asker.run()
                    finally:
                        received = asker.received
        if limit.cancelled_caught and received < LEAST_RECORDS:
            self._stalled(peer, received)
            return None
        return served

    async def _answer_sync(self, stream: Stream) -> None:
        peer = stream.peer
        with self._served.taken(peer, self._transport.host(peer)) as taken:
            if not taken:
                await wire.say(stream, "busy")
            elif not self._gate.shuts_out(peer):
                await self._answer(stream, peer)

    async def _answer(self, stream: Stream, peer: str) -> None:
        with trio.move_on_after(SESSION_SECONDS) as limit, metered(self._meter, ANSWERED, stream) as counted:
            answerer = Answerer(counted, self._held, self._swarm_id, partial(self._take, peer=peer), self._gate.refused)
            await answerer.run()
        moved = answerer.sent + answerer.received
        if limit.cancelled_caught and moved < LEAST_RECORDS:
            self._stalled(peer, moved)

    def _stalled(self, peer: str, records: int) -> None:
        error = RemoteProtocolError("sync", f"{records} records in {SESSION_SECONDS:g} s")
        self._gate.reject(error, peer, strikes=STRIKES // MOST_FAILED)

    # finding and being found

    async def _greet(self) -> None:
        """Newcomers, whoever dialed."""
        async with trio.open_nursery() as nursery:
            async for peer in self._transport.arrivals():
                nursery.start_soon(self._meet, peer)

    async def _meet(self, peer: str) -> None:
        """If we dialed, show that we are here and ask of whom and what it knows (who is in step knows what others
        run), and then whether it still lives.
        """
        self._gate.met(peer)
        if self._gate.shuts_out(peer):
            await self._transport.disconnect(peer)
            return
        self._presences.met()
        if self._transport.peer_address(peer) is not None:
            await self._presences.ask(peer)
            self._want_sync(peer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sync_again, peer)
                await self._alive.watch(peer)

    async def _sync_again(self, peer: str) -> None:
        """For what was said before gossip knew the newcomer."""
        await trio.sleep(SETTLED_SECONDS)
        self._want_sync(peer)

    async def _give_up(self, peer: str) -> None:
        log.info("%s does not answer any more", peer)
        await self._transport.disconnect(peer)

    async def _dial(self) -> None:
        """Dial whom we know or heard of until we are well connected."""
        while True:
            if len(self._transport.peers()) < ENOUGH:
                await self._dial_one()
            await trio.sleep(DIAL_SECONDS * self._rng.uniform(0.75, 1.25))

    async def _explore(self) -> None:
        """Meet another peer now and then, and part from one where there are plenty; but who calls on us in numbers
        does not take the place of those whom we chose.
        """
        while True:
            await trio.sleep(EXPLORE_SECONDS * self._rng.uniform(0.75, 1.25))
            if len(self._transport.peers()) >= ENOUGH:
                await self._dial_one()
            dialed = [
                peer for peer in self._transport.peers() if self._transport.peer_address(peer) is not None
            ]
            if len(self._transport.peers()) > PLENTY and len(dialed) > ENOUGH:
                await self._transport.disconnect(self._rng.choice(dialed))

    async def _dial_one(self) -> None:
        address = self._book.candidate(self._transport.peers(), trio.current_time())
        if address is None:
            return
        reached = False
        try:
            await self._transport.connect(address)
            reached = True
        except ConnectError as error:
            log.debug("%s", error)
        self._book.tried(address, reached, trio.current_time())
