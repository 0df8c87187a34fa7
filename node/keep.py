"""What follows the ledger at leisure: the branch ``best``, its notes, and the peers to remember."""

import logging
from collections.abc import Mapping

import trio

from gossip.transport import Transport
from node.apply import Assets, UnavailableError
from node.lineage import Lineage
from node.records import Records
from node.snapshot import level, summary_of
from protocol.records import Presence
from protocol.standing import Standing
from protocol.text import one_line
from trainer.program import Spec

log = logging.getLogger(__name__)

#: Records come in bursts: git and the disk follow once the burst is over.
SETTLE_SECONDS = 1.0
#: Peers are written down at least this often.
KEEP_SECONDS = 60.0
#: New ones at the next look: who is ended a moment after a start finds them again.
LOOK_SECONDS = 5.0


class Keeper:
    """``tier`` is this node's: its incumbent is what the branch ``best`` shows."""

    def __init__(self, records: Records, assets: Assets, lineage: Lineage, spec: Spec, tier: str) -> None:
        self._records = records
        self._assets = assets
        self._lineage = lineage
        self._spec = spec
        self._tier = tier
        self._noted: dict[str, str] = {}
        self._best = ""

    async def run(self) -> None:
        while True:
            await self.follow()
            await self._records.changed.wait(KEEP_SECONDS)
            await trio.sleep(SETTLE_SECONDS)

    async def follow(self) -> None:
        """Bring branch and notes up to date with the ledger."""
        incumbent = self._records.ledger.incumbent(self._tier)
        if incumbent is None:
            return
        notes = self._notes(incumbent)
        if not notes and incumbent.commit == self._best:
            return
        try:
            await self._assets.obtain(incumbent.commit)
        except UnavailableError as error:
            log.warning("the branch best stays behind: %s", error)
            return
        await self._lineage.publish(incumbent.commit, notes)
        self._noted |= notes
        if incumbent.commit != self._best:
            self._best = incumbent.commit
            log.info("best is %s: %s", incumbent.commit[:12], self._note(incumbent.commit))

    def _notes(self, incumbent: Standing) -> dict[str, str]:
        """The notes of its lineage that say something new."""
        notes = {commit: self._note(commit) for commit in self._records.ledger.lineage(incumbent.commit)}
        return {commit: text for commit, text in notes.items() if text != self._noted.get(commit)}

    def _note(self, commit: str) -> str:
        ledger = self._records.ledger
        standing = ledger.standing(commit, self._tier)
        summary = one_line(summary_of(ledger, commit))
        if standing is None or standing.value is None:
            return summary
        metric = f"{self._spec.metric_name} {ledger.to_metric(standing.value):.6g} {self._spec.unit}".rstrip()
        runs = f"{standing.runs} run{'' if standing.runs == 1 else 's'}"
        return f"{metric} ({level(standing)}, {runs}, {self._tier}): {summary}"


def reachable(transport: Transport, heard: Mapping[str, Presence]) -> dict[str, str]:
    """How to reach those we are connected to, by peer id; written down, a restart dials them.

    What we dialed ourselves is known to work; of one that dialed us we have its word.
    """
    found = {}
    for peer in transport.peers():
        said = heard[peer].addresses[:1] if peer in heard else ()
        address = transport.peer_address(peer) or next(iter(said), None)
        if address is not None:
            found[peer] = address
    return found
