"""A home that has seen much: thousands of experiments by many authors, some of whom would like to be read as HTML."""

import random
from contextlib import closing
from pathlib import Path

from node.home import Home
from node.journal import Journal
from protocol.commits import blob_id
from protocol.diffs import compress, make_diff
from protocol.identity import Identity
from protocol.manifest import pack
from protocol.records import Record, Result, run_seed, seal
from protocol.statements import Origin, Status
from tests.gossip.members import identity
from trainer.program import Program, load_program

AUTHORS = [identity(number) for number in range(100, 105)]
#: What a peer may put wherever words go. If any of it ran, the page's title would be another.
EVIL = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "</title></script><svg onload=document.title='owned'>\u202e\x1b[2J{{7*7}}javascript:alert(1)"
)
#: So many records share each moment of a day.
DAY_MS = 86_400_000


def crowded(home: Home, folder: Path, count: int, *, tier: str, now_ms: int) -> Program:
    """Fill a home's journal with ``count`` experiments of the program in ``folder``."""
    home.create()
    program = load_program(str(folder))
    rng = random.Random(0)
    with closing(Journal(home.journal)) as journal:
        journal.bind(program.swarm_id, pack(program.files))
        commits = [(program.commits.genesis, None, program.commits.genesis_blob, b"", 0.25)]
        for number in range(count):
            author = rng.choice(AUTHORS)
            if number < 2 or rng.random() < 0.1:
                commit, parent, blob, diff, loss = rng.choice(commits[-20:]) if number >= 2 else commits[0]
                origin = Origin.REPLICATION if parent else Origin.BASELINE
                author = AUTHORS[number] if number < 2 else author
            else:
                base = min(rng.choices(commits, k=3), key=lambda one: one[4])
                asset = program.asset + b" " * (number + 1)
                blob, parent, origin = blob_id(asset), base[0], Origin.AGENT
                commit = program.commits.candidate(parent, blob)
                diff = compress(make_diff(program.asset, asset + EVIL.encode() + b"\n", program.spec.asset))
                loss = base[4] + rng.gauss(0.02, 0.02)
                commits.append((commit, parent, blob, diff, loss))
            journal.append(
                _record(program, author, commit, parent, blob, diff, origin, loss + rng.gauss(0, 0.01), number,
                        tier=tier, now_ms=now_ms - DAY_MS + number * DAY_MS // (2 * count))
            )  # fmt: skip
    return program


def _record(
    program: Program, author: Identity, commit: str, parent: str | None, blob: str, diff: bytes, origin: Origin,
    metric: float, number: int, *, tier: str, now_ms: int,
) -> Record:  # fmt: skip
    failed = number % 23 == 22
    key = author.public_key
    result = Result(
        created_ms=now_ms, sequence=number, commit=commit, parent=parent, blob=blob, diff=diff, lines_added=1,
        lines_removed=0, origin=origin, index=0, seed=run_seed(commit, key, origin, 0),
        status=Status.CRASHED if failed else Status.SCORED, metric=None if failed else metric, metric_se=None,
        holdout=None if failed else metric + 0.01, cpu_seconds=1.0, wall_seconds=1.0, peak_memory=1 << 20, tier=tier,
        device=EVIL[:60], software=EVIL[:60], curve=((0.1, 3.0), (0.5, 2.0), (1.0, 1.5)),
        tunables={"x": 0.5}, summary=f"{number} {EVIL}", hypothesis=EVIL, failure=EVIL if failed else "",
    )  # fmt: skip
    return seal(author, program.swarm_id, result)
