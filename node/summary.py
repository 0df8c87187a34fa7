"""A night in words, for people: why it ended, how far it came, by which steps, and what that cost."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from node.snapshot import Best, Row, Snapshot, best, level
from node.view import duration, idle_text, short_commit
from protocol.ledger import Ledger
from protocol.statements import Status
from protocol.text import one_line

#: Standard errors on each side that hold the true value in 95 of 100 cases.
SURE = 1.96
#: Steps that are told; of more, the latest.
MOST_STEPS = 100
SUMMARY_LETTERS = 70

Table = list[Sequence[str]]


def summarize(snapshot: Snapshot, ledger: Ledger, rows: Iterable[Row]) -> str:
    """The text; ``rows`` are all experiments, in any order."""
    known = list(rows)
    return "\n".join([*_head(snapshot), *_bests(snapshot, ledger), *_steps(snapshot, ledger), *_experiments(known),
                      *_arms(snapshot), *_cost(snapshot, known)]) + "\n"  # fmt: skip


def _head(now: Snapshot) -> Iterator[str]:
    goal = "less" if now.goal == "minimize" else "more"
    unit = f", {one_line(now.unit)}" if now.unit else ""
    yield f"{one_line(now.program)}, swarm {now.swarm_id[:12]}, tier {now.tier}"
    yield f"Ended: {one_line(now.stopped)}." if now.stopped else "Not ended: no stopping criterion holds."
    yield f"{one_line(now.metric_name)}{unit}; {goal} is better. ± is the interval of 95 %; sigma is {now.sigma:.2g}."


def _bests(now: Snapshot, ledger: Ledger) -> Iterator[str]:
    genesis = best(ledger, ledger.standing(ledger.rules.genesis, now.tier))
    found = [("as it began", genesis), ("accepted", now.incumbents.get(now.tier)), ("proven", now.proven.get(now.tier))]
    if (waiting := _waiting(now, ledger)) is not None:
        found.append(("promising", waiting))
    found += [(f"accepted in {tier}", one) for tier, one in sorted(now.incumbents.items()) if tier != now.tier]
    table: Table = [
        (name, _interval(one.metric, one.error), _gain(now, genesis, one), str(one.runs), short_commit(one.commit),
         one_line(one.summary, SUMMARY_LETTERS))
        for name, one in found if one is not None
    ]  # fmt: skip
    yield from _section("The best", [("", "metric", "better by", "runs", "commit", ""), *table])


def _waiting(now: Snapshot, ledger: Ledger) -> Best | None:
    """The best that has not had its replications."""
    promising = [one for commit in ledger.promising(now.tier) if (one := ledger.standing(commit, now.tier)) is not None]
    scored = [one for one in promising if one.value is not None and not one.vetoed]
    return best(ledger, min(scored, key=lambda one: (one.value, one.commit), default=None))


def _steps(now: Snapshot, ledger: Ledger) -> Iterator[str]:
    """From genesis to the incumbent, and what each step gained on the one before; also those whose replications never
    came, since a node searches on from a clear win of its own.
    """
    incumbent = now.incumbents.get(now.tier)
    if incumbent is None:
        return
    line = [ledger.standing(commit, now.tier) for commit in ledger.lineage(incumbent.commit)]
    steps = [(found, level(one)) for one in line if (found := best(ledger, one)) is not None]
    table: Table = [
        (short_commit(one.commit), _interval(one.metric, one.error), _gain(now, before, one), standing,
         one_line(one.summary, SUMMARY_LETTERS))
        for (before, _), (one, standing) in pairwise(steps)
    ]  # fmt: skip
    yield from _section("The steps", [("commit", "metric", "effect", "standing", ""), *table[-MOST_STEPS:]])


def _experiments(rows: Sequence[Row]) -> Iterator[str]:
    counts = Counter((row.origin.value, row.status.value) for row in rows)
    origins = sorted({origin for origin, _ in counts})
    statuses = [status.value for status in Status if any(told == status.value for _, told in counts)]
    table: Table = [
        (origin, *(str(counts[origin, status]) for status in statuses),
         str(sum(counts[origin, status] for status in statuses)))
        for origin in origins
    ]  # fmt: skip
    yield from _section("Experiments, of all nodes", [("origin", *statuses, "together"), *table])


def _arms(now: Snapshot) -> Iterator[str]:
    """Where the candidates of this node came from, and what share was accepted."""
    table: Table = [
        (arm, *(str(counts[one]) for one in ("tried", "promising", "accepted", "proven")),
         f"{counts['accepted'] / counts['tried']:.0%}")
        for arm, counts in now.yields.items() if counts["tried"]
    ]  # fmt: skip
    head = ("arm", "tried", "promising", "accepted", "proven", "yield")
    yield from _section("Candidates of this node", [head, *table])


def _cost(now: Snapshot, rows: Sequence[Row]) -> Iterator[str]:
    mine = [row for row in rows if row.peer == now.peer_id]
    table: Table = [
        (name, str(len(some)), duration(sum(row.cpu_seconds for row in some)),
         duration(sum(row.wall_seconds for row in some)))
        for name, some in (("all nodes", rows), ("this node", mine))
    ]  # fmt: skip
    yield from _section("What it cost", [("", "runs", "CPU time", "wall time"), *table])
    if now.edits:
        yield f"Duplicates: {now.duplicates} of {now.edits} new edits ({now.duplicates / now.edits:.0%})."
    if now.idle:
        yield f"Idle: {idle_text(now.idle)}"


def _gain(now: Snapshot, before: Best | None, one: Best) -> str:
    """How much better ``one`` is, with its interval; within a tier only."""
    if before is None or before.commit == one.commit or before.tier != one.tier:
        return ""
    gain = before.metric - one.metric if now.goal == "minimize" else one.metric - before.metric
    return _interval(gain, math.hypot(before.error, one.error), sign="+")


def _interval(value: float, error: float, sign: str = "") -> str:
    return f"{format(value, sign + '.5g')} ± {SURE * error:.2g}"


def _section(title: str, table: Table) -> Iterator[str]:
    """Aligned columns under a title; nothing where there is no row but the head."""
    if len(table) < 2:
        return
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    yield ""
    yield title
    for row in table:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
