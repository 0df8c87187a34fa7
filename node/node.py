"""One node: ledger, journal, lineage, swarm, trainer and proposer, put together."""

import logging
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import trio
from trio_typing import TaskStatus

from gossip.swarm import Swarm
from gossip.transport import CIRCUIT
from node.apply import Assets
from node.keep import KEEP_SECONDS, LOOK_SECONDS, Keeper, reachable
from node.kept_idle import KEPT
from node.loop import Loop
from node.parts import Options, Parts
from node.records import Records
from node.snapshot import Row, Snapshot, row
from node.targets import Hosts, targets
from node.verdict import verdict_on
from protocol.errors import UserError
from protocol.identity import public_key_of
from protocol.ledger import Ledger
from protocol.manifest import pack
from protocol.records import Presence, Record
from protocol.statements import MAX_ADDRESSES

log = logging.getLogger(__name__)

#: A node that has somebody to ask waits so long to hear what is known and who is there before its first experiment: to
#: run genesis again costs it a budget. Ten thousand records come in a few seconds.
JOIN_SECONDS = 10.0
#: Verdicts that wait to be published: people don't make more at once.
MOST_VERDICTS = 100


class Node:
    """A node from its parts; it is also what its swarm stores records in and serves assets from.

    ``finished`` is set when the loop has ended; the node goes on serving its peers. Raises UserError where
    the journal is of another swarm.
    """

    def __init__(self, parts: Parts, options: Options) -> None:
        self._parts = parts
        self._options = options
        program, journal = parts.program, parts.journal
        self._packed = pack(program.files)
        journal.bind(program.swarm_id, self._packed)
        self.records = Records(journal, program.rules, parts.identity, program.swarm_id)
        known = (*options.bootstrap, *journal.peers())
        self._alone = not known
        self.swarm = Swarm(
            parts.transport, self, program.swarm_id, parts.identity, clock_ms=parts.clock_ms,
            on_rejected=self._on_rejected, presence=self._presence, rng=random.Random(options.seed),
            known=known, meter=parts.meters,
        )  # fmt: skip
        tier = parts.trainer.device.tier
        self._assets = Assets(
            self.records.ledger, parts.lineage, program.spec.asset, self.swarm.fetch_asset, self._on_rejected
        )
        self._loop = Loop(parts, options, self.records, self._assets, self.swarm, self._live)
        self._keeper = Keeper(self.records, self._assets, parts.lineage, program.spec, tier)
        self._blank = Snapshot.of(
            program, tier, self.records.me, sandbox=options.sandbox, version=options.version, foreign=options.foreign
        )
        self._hosts = Hosts(parts.transport)
        #: what follows from the ledger, and the number of records that it follows from
        self._picture = (self._blank, -1)
        self._started_ms = parts.clock_ms()
        self._stopped = ""
        self._token: trio.lowlevel.TrioToken | None = None
        self._to_publish, self._verdicts = trio.open_memory_channel[Record](MOST_VERDICTS)
        self.finished = trio.Event()

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work and serve until cancelled; started when the swarm is."""
        self._token = trio.lowlevel.current_trio_token()
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.swarm.run)
                nursery.start_soon(self._publish_verdicts)
                nursery.start_soon(self._keeper.run)
                nursery.start_soon(self._remember)
                nursery.start_soon(self._work)
                task_status.started()
        finally:
            self._keep_idle()

    def snapshot(self) -> Snapshot:
        transport, held = self._parts.transport, len(self.records.ledger)
        if self._picture[1] != held:
            self._picture = self._blank.with_ledger(self.records.ledger, self.records.chronicle), held
        return replace(
            self._picture[0],
            addresses=tuple(one for one in transport.addresses() if CIRCUIT not in one),
            http=self._options.http,
            peers=tuple(transport.peers()),
            nodes=dict(Counter([self._blank.tier, *(one.tier for one in self.swarm.presences().values())])),
            mesh=self.swarm.mesh(),
            journal_bytes=self._parts.journal.size,
            current=self._loop.current,
            idle=self._loop.idle.shares(),
            started_ms=self._started_ms,
            stopped=self._stopped,
            paused=self._loop.paused,
        )

    @property
    def ledger(self) -> Ledger:
        return self.records.ledger

    def nodes(self) -> list[dict[str, Any]]:
        """This node and those heard lately, for people."""
        me, connected = self._parts.transport.peer_id, set(self._parts.transport.peers())
        heard = {me: self._presence(), **self.swarm.presences()}
        return [
            {"peer": peer, "me": peer == me, "connected": peer in connected, "host": self._hosts.known().get(peer, ""),
             **{name: getattr(said, name) for name in ("tier", "version", "records", "peers", "experiments")},
             "addresses": list(said.addresses), "created_ms": said.created_ms}
            for peer, said in heard.items()
        ]  # fmt: skip

    def targets(self, own: str) -> list[dict[str, Any]]:
        """For ``/sd``: this node, which was asked as ``own``, and all that let themselves be scraped."""
        return targets(own, self._parts.transport.peer_id, self.swarm.presences(), self._hosts.known())

    # what the operator wants

    def pause(self, paused: bool) -> None:
        """Begin no new experiment, or go on; remembered over restarts."""
        self._soon(lambda: self._pause(paused))

    def _pause(self, paused: bool) -> None:
        self._parts.journal.set_meta("paused", b"1" if paused else b"")
        self._loop.paused = paused
        self.records.changed.send()
        log.info("paused: no new experiment begins" if paused else "resumed")

    def judge(self, commit: str, approve: bool) -> None:
        """Approve or veto a commit as the program's founder. Raises UserError."""
        verdict = verdict_on(self.records, commit, approve=approve, now_ms=self._parts.clock_ms())
        self._soon(lambda: self._to_publish.send_nowait(self.records.tell(verdict)))

    def _soon(self, order: Callable[[], None]) -> None:
        """HTTP is answered beside trio, on its thread: it may not wake it by itself."""
        if self._token is None:
            raise UserError("the node does not work yet: try again in a moment")
        self._token.run_sync_soon(order)

    async def _publish_verdicts(self) -> None:
        async for record in self._verdicts:
            await self.swarm.publish(record)

    def rows(self) -> list[Row]:
        """All experiments, the latest to arrive first."""
        return [row(self.ledger, record) for record in self.records.latest() if record.result is not None]

    async def _work(self) -> None:
        self._parts.journal.set_meta("stopped", b"")
        if not self._alone:
            log.info("listening to the swarm first, for %g s at most", JOIN_SECONDS)
            with trio.move_on_after(JOIN_SECONDS):
                await self.swarm.in_step.wait()
        self._stopped = await self._loop.run()
        self._parts.journal.set_meta("stopped", self._stopped.encode())
        self.finished.set()

    async def _remember(self) -> None:
        written: dict[str, str] = {}
        due = 0.0
        while True:
            self._hosts.known()  # while they are connected
            found = reachable(self._parts.transport, self.swarm.presences())
            if found != written or trio.current_time() >= due:
                self._keep_idle()
                for peer, address in found.items():
                    self._parts.journal.remember(peer, address, self._parts.clock_ms())
                written, due = found, trio.current_time() + KEEP_SECONDS
            await trio.sleep(LOOK_SECONDS)

    def _keep_idle(self) -> None:
        self._parts.journal.set_meta(KEPT, self._loop.idle.to_keep())

    # what the swarm asks of its store

    def ids(self) -> Collection[str]:
        return self.records.ledger.ids()

    def get(self, record_id: str) -> bytes | None:
        record = self.records.ledger.get(record_id)
        return None if record is None else record.wire

    async def ingest(self, record: Record, source: str) -> bool:
        """Keep a record that ``source`` gave; True if it is new. Raises RemoteProtocolError."""
        return self.records.take(record)

    def asset(self, commit: str) -> bytes | None:
        return self._assets.held(commit)

    def program(self) -> bytes | None:
        return self._packed

    def hello(self) -> Mapping[str, Any]:
        spec = self._parts.program.spec
        return {
            "swarm_id": self._parts.program.swarm_id,
            "name": spec.name,
            "founder": spec.founder,
            "version": self._options.version,
        }

    # what it says of itself, and hears of others

    def _presence(self) -> Presence:
        return Presence(
            created_ms=self._parts.clock_ms(),
            addresses=tuple(self._parts.transport.addresses()[:MAX_ADDRESSES]),
            tier=self._parts.trainer.device.tier,
            version=self._options.version,
            metrics_address=self._options.metrics_address,
            records=len(self.records.ledger),
            peers=len(self._parts.transport.peers()),
            experiments=len(self.records.chronicle.own_ms),
        )

    def _live(self) -> Collection[bytes]:
        """Public keys of peers of this tier heard lately."""
        tier = self._parts.trainer.device.tier
        heard = self.swarm.presences()
        return [public_key_of(peer) for peer, presence in heard.items() if presence.tier == tier]

    def _on_rejected(self, reason: str, peer: str) -> None:
        log.info("a message from %s was rejected: %s", peer, reason)
        self._parts.meters.rejected(reason)
