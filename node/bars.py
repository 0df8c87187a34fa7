"""What this node can't or may not run: assets that nobody could give; peers' code where no sandbox holds."""

import logging
from collections.abc import Container
from dataclasses import dataclass

from node.records import Records
from protocol.statements import Origin

log = logging.getLogger(__name__)


class Bars:
    """``foreign`` says whether peers' code may run here."""

    def __init__(self, records: Records, *, foreign: bool) -> None:
        self._records = records
        self.foreign = foreign
        self._until: dict[str, int] = {}
        self._refused: set[str] = set()

    def put(self, commit: str, until_ms: int) -> None:
        self._until[commit] = until_ms

    def at(self, now_ms: int) -> Container[str]:
        """The commits barred at that time."""
        return _Barred(self, now_ms)

    def bars(self, commit: str, now_ms: int) -> bool:
        if self._until.get(commit, 0) > now_ms:
            return True
        self._until.pop(commit, None)
        return not self.foreign and self._refuses(commit)

    def _refuses(self, commit: str) -> bool:
        """Without a sandbox a candidate runs only where every step from genesis to it is an edit of my proposer: what
        was put together, or comes from another tier, may be a peer's code.
        """
        line = self._records.ledger.lineage(commit)
        mine = self._records.chronicle.proposed
        own = all(mine.get(step) is Origin.AGENT for step in line[1:])
        if commit == self._records.ledger.rules.genesis or (line and own):
            return False
        if commit not in self._refused:
            self._refused.add(commit)
            log.warning("%s is a peer's code and is not run: no sandbox works here", commit[:12])
        return True


@dataclass(frozen=True)
class _Barred:
    bars: Bars
    now_ms: int

    def __contains__(self, commit: object) -> bool:
        return isinstance(commit, str) and self.bars.bars(commit, self.now_ms)
