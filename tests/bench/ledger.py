"""What a record costs the ledger, by size: taken in, and with every question settled after each.

    python -m tests.bench.ledger [--records 100000]

The records are a swarm's: 40 authors, two tiers, each edit on a good recent candidate, a fifth of the runs
replications and confirmations. Signatures are left out. Python's collector of cyclic garbage is off while the
clock runs: there is no cyclic garbage, and at 100,000 records a full collection stops the process for half a
second (a node does well to ``gc.freeze()`` after it has replayed its journal).
"""

import argparse
import gc
import random
import time
from collections.abc import Iterator

from protocol.commits import CommitScheme, blob_id
from protocol.ledger import Ledger
from protocol.records import Kind, Record
from protocol.rules import Rules
from protocol.statements import Origin, Result, Status, run_seed

SCHEME = CommitScheme({"train.py": b"", "program.md": b""}, asset="train.py")
RULES = Rules(SCHEME, noise=1.0, simplicity=0.01)
TIERS = ("cpu", "gpu")
AUTHORS = [bytes([number]) * 32 for number in range(40)]
#: Edits start from one of so many latest candidates: swarms move on.
RECENT = 50


def swarm_records(count: int, seed: int = 0) -> Iterator[Record]:
    """``count`` results with a parent's record always before its children's."""
    rng = random.Random(seed)
    commits: list[tuple[str, str | None, str, float]] = [(SCHEME.genesis, None, SCHEME.genesis_blob, 0.0)]
    used: set[tuple[str, bytes, Origin, int]] = set()
    while len(used) < count:
        author, tier = rng.choice(AUTHORS), rng.choice(TIERS)
        if len(used) > len(TIERS) * 4 and rng.random() < 0.8:
            parent, _, _, loss = min(rng.choices(commits[-RECENT:], k=3), key=lambda commit: commit[3])
            blob = blob_id(b"%d" % len(commits))
            commits.append((SCHEME.candidate(parent, blob), parent, blob, loss + rng.gauss(0.3, 0.5)))
            (commit, parent_id, blob, loss), origin, index = commits[-1], Origin.AGENT, 0
        else:
            commit, parent_id, blob, loss = rng.choice(commits[-RECENT:])
            origin = rng.choice([Origin.REPLICATION, Origin.CONFIRMATION])
            index = next(i for i in range(64) if (commit, author, origin, i) not in used)
        used.add((commit, author, origin, index))
        yield _record(author, tier, commit, parent_id, blob, origin, index, loss + rng.gauss(0, 1), len(used))


def _record(
    author: bytes, tier: str, commit: str, parent: str | None, blob: str, origin: Origin, index: int,
    metric: float, number: int,
) -> Record:  # fmt: skip
    failed = number % 17 == 0
    result = Result(
        created_ms=number, sequence=number, commit=commit, parent=parent, blob=blob, diff=b"",
        lines_added=number % 7, lines_removed=number % 5, origin=origin, index=index,
        seed=run_seed(commit, author, origin, index), status=Status.CRASHED if failed else Status.SCORED,
        metric=None if failed else metric, metric_se=None, holdout=None, cpu_seconds=0.0, wall_seconds=0.0,
        peak_memory=0, tier=tier, device="", software="", curve=(), tunables={}, summary="", hypothesis="",
        failure="",
    )  # fmt: skip
    return Record(Kind.RESULT, b"s" * 32, author, b"%d" % number, b"", statement=result)


def settle(ledger: Ledger) -> None:
    """Ask what a node asks after each record."""
    for tier in TIERS:
        ledger.incumbent(tier)
        ledger.proven_best(tier)


def _timed(records: list[Record], ask_each: bool) -> tuple[float, float]:
    """Seconds per record, and the longest that one took."""
    ledger, longest = Ledger(RULES), 0.0
    gc.disable()
    begun = time.perf_counter()
    for record in records:
        before = time.perf_counter()
        ledger.add(record)
        if ask_each:
            settle(ledger)
        longest = max(longest, time.perf_counter() - before)
    settle(ledger)
    gc.enable()
    return (time.perf_counter() - begun) / len(records), longest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000)
    args = parser.parse_args()
    records = list(swarm_records(args.records))
    print("records   taken in, settled once   settled after each (mean, longest)")
    size = 1000
    while size <= len(records):
        once, _ = _timed(records[:size], ask_each=False)
        each, longest = _timed(records[:size], ask_each=True)
        print(
            f"{size:7}   {once * 1e6:15.1f} µs/record   {each * 1e6:.1f} µs/record, {longest * 1e3:.1f} ms",
            flush=True,
        )
        size *= 10


if __name__ == "__main__":
    main()
