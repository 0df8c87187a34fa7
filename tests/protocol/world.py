"""Records for tests of the ledger: a tiny program, peers with real keys, results in one line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from protocol.commits import CommitScheme, blob_id
from protocol.identity import Identity
from protocol.ledger import Ledger
from protocol.records import Record, seal
from protocol.rules import Rules
from protocol.statements import Origin, Result, Status, Verdict, run_seed

SWARM = b"w" * 32
TIER = "cpu-test"
SCHEME = CommitScheme({"train.py": b"x = 1\n", "program.md": b"test\n"}, asset="train.py")


@lru_cache(256)
def peer(name: str) -> Identity:
    return Identity(name.encode().ljust(32, b"."))


def rules(**changes: object) -> Rules:
    return Rules(SCHEME, **{"noise": 1.0, **changes})  # type: ignore[arg-type]


@dataclass
class World:
    """Names for commits: a candidate is named by its asset, and remembers its parent."""

    parents: dict[str, str | None] = field(default_factory=lambda: {"genesis": None})
    _commits: dict[str, str] = field(default_factory=dict, repr=False)

    def child(self, name: str, of: str = "genesis") -> str:
        self.parents[name] = of
        return name

    def commit(self, name: str) -> str:
        if name not in self._commits:
            parent = self.parents[name]
            commit = (
                SCHEME.genesis if parent is None else SCHEME.candidate(self.commit(parent), self.blob(name))
            )
            self._commits[name] = commit
        return self._commits[name]

    def blob(self, name: str) -> str:
        return SCHEME.genesis_blob if name == "genesis" else blob_id(name.encode())

    def result(
        self, author: str, name: str, metric: float | None, origin: Origin = Origin.AGENT, index: int = 0, *,
        tier: str = TIER, lines: int = 0, status: Status | None = None, at_ms: int = 0, sequence: int = 0,
        summary: str = "", tunables: Mapping[str, float] | None = None, holdout: float | None = None,
    ) -> Record:  # fmt: skip
        """A result signed by ``author``; no metric means a crash unless ``status`` says otherwise."""
        commit, parent = self.commit(name), self.parents[name]
        statement = Result(
            created_ms=at_ms, sequence=sequence, commit=commit,
            parent=None if parent is None else self.commit(parent), blob=self.blob(name), diff=b"",
            lines_added=max(lines, 0), lines_removed=max(-lines, 0), origin=origin, index=index,
            seed=run_seed(commit, peer(author).public_key, origin, index),
            status=status or (Status.SCORED if metric is not None else Status.CRASHED), metric=metric,
            metric_se=None, holdout=holdout, cpu_seconds=1.0, wall_seconds=1.0, peak_memory=1, tier=tier,
            device="", software="", curve=(), tunables=tunables or {},
            summary=summary, hypothesis="", failure="",
        )  # fmt: skip
        return seal(peer(author), SWARM, statement)

    def verdict(self, author: str, name: str, approve: bool, sequence: int = 0) -> Record:
        return seal(peer(author), SWARM, Verdict(0, sequence, self.commit(name), approve))


def ledger_of(*records: Record, **changes: object) -> Ledger:
    ledger = Ledger(rules(**changes))
    for record in records:
        ledger.add(record)
    return ledger
