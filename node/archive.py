"""What a home holds, read without disturbing the node that may run on it."""

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from node.home import Home
from node.journal import Journal
from node.kept_idle import KEPT, kept_shares
from node.records import Records
from node.snapshot import Row, Snapshot, row
from node.version import version
from protocol.errors import UserError
from protocol.manifest import unpack
from trainer.program import Program, parse_program

#: A node on this machine answers in milliseconds; one that does not is looked at from outside.
ASK_SECONDS = 3.0

Json = dict[str, Any]


@dataclass(frozen=True)
class Archive:
    """The records of a home and what follows from them; ``tier`` is the home's own, ``stopped`` why its node did no
    more, "" where it would; ``idle`` as in ``Snapshot``, over all starts.
    """

    home: Home
    program: Program
    tier: str
    records: Records
    stopped: str = ""
    idle: Mapping[str, float] = field(default_factory=dict)

    def snapshot(self) -> Snapshot:
        """The home as a node would show it that does not run."""
        blank = Snapshot.of(self.program, self.tier, self.records.me, sandbox="", version=version())
        told = blank.with_ledger(self.records.ledger, self.records.chronicle)
        return replace(told, stopped=self.stopped, idle=self.idle)

    def rows(self) -> Iterator[Row]:
        """All experiments, the latest to arrive first."""
        return (row(self.records.ledger, one) for one in self.records.latest() if one.result is not None)

    def asset(self, commit: str) -> bytes:
        """The asset at ``commit``. Raises UserError where neither lineage nor diffs lead to it."""
        from node.apply import Assets  # with GitPython, which takes its time to load
        from node.lineage import GitLineage

        with closing(GitLineage(self.home.lineage, self.program.commits)) as lineage:
            asset = Assets(self.records.ledger, lineage, self.program.spec.asset, _ask_nobody).held(commit)
        if asset is None:
            raise UserError(f"the asset of {commit[:12]} is not here yet: its node fetches it from peers")
        return asset


def ask(home: Home, path: str) -> Any:
    """What the node that runs on a home answers to GET; None where none runs or answers."""
    said = home.announced()
    if said is None:
        return None
    try:
        with urllib.request.urlopen(f"{said['http']}{path}", timeout=ASK_SECONDS) as answer:
            return json.load(answer)
    except (KeyError, ValueError, OSError):
        return None


async def _ask_nobody(commit: str, check: Callable[[bytes], bool]) -> bytes | None:
    return None


@contextmanager
def open_archive(home: Home) -> Iterator[Archive]:
    """Raises UserError where no node has worked."""
    if not home.exists:
        raise UserError(f"no node has worked in {home.path}: see waggle start --help, or give another --home")
    with closing(Journal(home.journal, read_only=True)) as journal:
        program = held_program(journal)
        if program is None:
            raise UserError(f"{home.path} holds no program yet: its node has not come to begin its work")
        tier = (journal.meta("tier") or b"").decode()
        records = Records(journal, program.rules, home.identity(), program.swarm_id)
        stopped, idle = (journal.meta("stopped") or b"").decode(), kept_shares(journal.meta(KEPT))
        yield Archive(home, program, tier, records, stopped, idle)


def held_program(journal: Journal) -> Program | None:
    """The program that a journal's home works on."""
    if journal.swarm_id is None or journal.program is None:
        return None
    return parse_program(unpack(journal.program, journal.swarm_id))
