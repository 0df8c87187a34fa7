"""What to do next: a pure function of the ledger and of what this node has done.

In this order: what the swarm needs of me (genesis, replications, confirmations, checks of what others say:
``protocol.assignment``), then my own wins whose base has moved, then the proposer's next edit.
"""

from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from protocol.assignment import Duty, duties
from protocol.ledger import Ledger
from protocol.standing import Standing
from protocol.statements import Claim
from protocol.trust import Base, headline, usable_bases
from trainer.program import Stop


class Action(StrEnum):
    RUN = "run"
    REBASE = "rebase"
    ASK = "ask"
    WAIT = "wait"


@dataclass(frozen=True)
class View:
    """What is known when choosing.

    live      public keys of peers of my tier heard lately
    claims    others' claims in force
    proposed  candidates that are edits of mine
    rebased   wins of mine that were carried over already, or could not be
    barred    commits that I can't or may not run, and so not search from either
    busy      commits that another lane of mine is running or carrying over
    """

    ledger: Ledger
    me: bytes
    tier: str
    now_ms: int
    budget_ms: int
    live: Collection[bytes] = ()
    claims: Collection[tuple[bytes, Claim]] = ()
    proposed: Collection[str] = field(default_factory=frozenset)
    rebased: Collection[str] = field(default_factory=frozenset)
    barred: Container[str] = field(default_factory=frozenset)
    busy: Container[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Choice:
    """RUN a duty; REBASE ``commit`` onto ``base``; ASK the proposer for an edit of ``base``; or WAIT."""

    action: Action
    duty: Duty | None = None
    commit: str = ""
    base: str = ""


def choose(view: View) -> Choice:
    for duty in _duties(view):
        if duty.commit not in view.barred and duty.commit not in view.busy:
            return Choice(Action.RUN, duty, duty.commit)
    base = search_base(view)
    if base is None:
        return Choice(Action.WAIT)
    for win in moved_wins(view, base.commit):
        return Choice(Action.REBASE, commit=win, base=base.commit)
    return Choice(Action.ASK, base=base.commit)


def search_base(view: View) -> Base | None:
    """What the next edit starts from: the best candidate that I believe and may run."""
    bases = usable_bases(view.ledger, me=view.me, tier=view.tier)
    return next((base for base in bases if base.commit not in view.barred), None)


def moved_wins(view: View, onto: str) -> Iterator[str]:
    """My wins that neither lead to ``onto`` nor come from it, and have not been carried over; best first.

    A win that would be incumbent itself is not moved: the others move onto it.
    """
    ledger, line = view.ledger, set(view.ledger.lineage(onto))
    bar = ledger.value(onto, view.tier)
    wins = (_win(view, commit) for commit in view.proposed)
    moved = [
        (win.value, win.commit)
        for win in wins
        if win is not None
        and win.value is not None
        and (bar is None or win.value >= bar)
        and win.commit not in line
        and onto not in ledger.lineage(win.commit)
    ]
    for _, commit in sorted(moved):
        yield commit


def common_base(ledger: Ledger, one: str, other: str) -> str:
    """The latest commit that two lineages share: what a 3-way merge starts from."""
    pairs = zip(ledger.lineage(one), ledger.lineage(other), strict=False)
    return [first for first, second in pairs if first == second][-1]


def reason_to_stop(stop: Stop, view: View, *, own_ms: Sequence[int], hours: float) -> str:
    """Why the node has done enough, or "": its own experiments were told at ``own_ms``, the first of them
    ``hours`` ago.
    """
    if stop.experiments is not None and len(own_ms) >= stop.experiments:
        return f"{len(own_ms)} experiments done"
    if stop.hours is not None and hours >= stop.hours:
        return f"{stop.hours:g} hours are over"
    believed = headline(view.ledger, me=view.me)
    if stop.target is not None and believed is not None and believed.value is not None:
        target = view.ledger.to_metric(stop.target)
        if believed.value <= target:
            return f"the target {stop.target:g} is reached"
    if stop.patience is not None and (idle := _idle(view, own_ms)) >= stop.patience:
        return f"{idle} experiments without an accepted one"
    return ""


def _duties(view: View) -> list[Duty]:
    return duties(
        view.ledger, me=view.me, tier=view.tier, live=view.live, claims=view.claims, now_ms=view.now_ms,
        budget_ms=view.budget_ms,
    )  # fmt: skip


def _win(view: View, commit: str) -> Standing | None:
    """Its standing, where it beats what it was made on."""
    if commit in view.rebased or commit in view.barred or commit in view.busy:
        return None
    standing = view.ledger.standing(commit, view.tier)
    return standing if standing is not None and standing.promising and not standing.vetoed else None


def _idle(view: View, own_ms: Sequence[int]) -> int:
    """My experiments since the latest candidate that was accepted was told for the first time."""
    ledger = view.ledger
    times = [
        min(run.result.created_ms for run in ledger.runs(commit, view.tier))
        for commit in ledger.accepted(view.tier)
        if commit != ledger.rules.genesis
    ]
    since = max(times, default=0)
    return sum(created_ms > since for created_ms in own_ms)
