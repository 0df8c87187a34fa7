"""What to do next: a pure function of the ledger and of what this node has done.

In this order: what the swarm needs of me (genesis, replications, confirmations, checks of what others say:
``protocol.assignment``), then my own wins whose base has moved, then, by chance, two wins put together or another
tier's incumbent, else the proposer's next edit.
"""

from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from protocol.assignment import Duty, duties
from protocol.ledger import Ledger
from protocol.standing import Standing, place
from protocol.statements import Claim, Origin
from protocol.trust import headline, usable_bases
from trainer.program import Stop

#: Of the steps in which a node may think of something new, so many first look whether two wins can be put together, or
#: one of another tier be tried here: both are cheap to think of, and there are few of them.
RECOMBINE_SHARE, TRANSPLANT_SHARE = 0.25, 0.15
#: A candidate that misses being promising by so little may be a part of a win: in units of the tier's noise.
NEAR_MISS = 1.0
#: Of other tiers and of near misses, those that are looked at: the best.
MOST_TRIED = 8
#: In a swarm of at least so many, one node in so many searches on from the best that is no part of the incumbent's
#: lineage: what a greedy search has given up may lead further.
ISLAND_ONE_IN = 8


class Action(StrEnum):
    RUN = "run"
    REBASE = "rebase"
    RECOMBINE = "recombine"
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
    foreign   whether peers' code may run here, and so what may hold some of it
    since_ms  when this node began
    draw      a number from 0 to 1, another for each step: which arm is tried
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
    foreign: bool = True
    draw: float = 1.0
    since_ms: int = 0


@dataclass(frozen=True)
class Choice:
    """RUN a duty; REBASE my win ``commit`` onto ``base``, or RECOMBINE another's with it; ASK the proposer for an edit
    of ``base``; or WAIT.
    """

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
    at_hand = _at_hand(view, base) if view.foreign else iter(())
    return next(at_hand, Choice(Action.ASK, base=base))


def _at_hand(view: View, base: str) -> Iterator[Choice]:
    """What nobody has to think of. Nothing is put on a peer's lead, or it would be lost with it."""
    if not is_lead(view, base):
        for win in moved_wins(view, base):
            yield Choice(Action.REBASE, commit=win, base=base)
        for part in parts_to_add(view, base) if view.draw < RECOMBINE_SHARE else ():
            yield Choice(Action.RECOMBINE, commit=part, base=base)
    if RECOMBINE_SHARE <= view.draw < RECOMBINE_SHARE + TRANSPLANT_SHARE:
        for duty in transplants(view):
            yield Choice(Action.RUN, duty, duty.commit)


def search_base(view: View) -> str | None:
    """What the next edit starts from: the best candidate that I believe and may run, but for an island's.

    While others run genesis for the first time, genesis: what it comes to is soon known, and to wait is to do nothing.
    """
    ledger = view.ledger
    usable = usable_bases(ledger, me=view.me, tier=view.tier, now_ms=view.now_ms, budget_ms=view.budget_ms)
    bases = [base.commit for base in usable if base.commit not in view.barred]
    if bases and is_island(view):
        line = set(ledger.lineage(bases[0]))
        bases = [base for base in bases if base not in line] or bases
    if not bases and ledger.rules.genesis not in view.barred and not ledger.averages(ledger.rules.genesis, view.tier):
        bases = [ledger.rules.genesis]
    return bases[0] if bases else None


def is_lead(view: View, base: str) -> bool:
    """Whether nobody but peers ran it, and it is not accepted yet."""
    standing = view.ledger.standing(base, view.tier)
    return standing is not None and not standing.accepted and view.me not in view.ledger.averages(base, view.tier)


def is_island(view: View) -> bool:
    """Whether I am one of the few that search elsewhere: nobody's choice, and the same all the time."""
    peers = len(frozenset(view.live) | {view.me})
    return peers >= ISLAND_ONE_IN and place("island", view.me)[0] % ISLAND_ONE_IN == 0


def parts_to_add(view: View, onto: str) -> Iterator[str]:
    """What others found, is no part of ``onto``, and may be put together with it: wins whose author is not here to do
    so, then near misses made on what ``onto`` was made on; each by one peer at first, and by others when time has
    passed.
    """
    ledger = view.ledger
    line = set(ledger.lineage(onto))
    near = NEAR_MISS * ledger.sigma(view.tier)
    misses = [
        (standing.gain, commit)
        for commit in ledger.commits()
        if (standing := ledger.standing(commit, view.tier)) is not None
        and standing.gain is not None and -near < standing.gain <= 0 and standing.base in line
    ]  # fmt: skip
    wins = [
        commit for commit in ledger.accepted(view.tier)
        if commit != ledger.rules.genesis and _author(ledger, commit) not in view.live
    ]  # fmt: skip
    for commit in [*wins, *(commit for _, commit in sorted(misses, reverse=True)[:MOST_TRIED])]:
        standing = ledger.standing(commit, view.tier)
        free = commit not in view.rebased and commit not in view.barred and commit not in view.busy
        if standing is None or standing.vetoed or not free or commit in line or onto in ledger.lineage(commit):
            continue
        if _my_turn(view, commit):
            yield commit


def transplants(view: View) -> Iterator[Duty]:
    """The incumbents of other tiers that nobody has run in mine, to be run here."""
    ledger = view.ledger
    for tier in ledger.tiers():
        best = ledger.incumbent(tier)
        if tier == view.tier or best is None or best.vetoed or best.commit == ledger.rules.genesis:
            continue
        free = best.commit not in view.barred and best.commit not in view.busy
        if free and not ledger.averages(best.commit, view.tier) and _my_turn(view, best.commit):
            index = ledger.next_index(best.commit, view.tier, view.me, Origin.TRANSPLANT)
            yield Duty(best.commit, view.tier, Origin.TRANSPLANT, index, 0)


def _author(ledger: Ledger, commit: str) -> bytes:
    run = ledger.told(commit)
    return b"" if run is None else run.author


def _my_turn(view: View, commit: str) -> bool:
    """Peers take turns by their place for a candidate, a budget each, so that not all do the same at once."""
    mine = place(commit, view.me)
    rank = sum(place(commit, peer) < mine for peer in frozenset(view.live) - {view.me})
    told = max((view.ledger.latest_ms(commit, tier) for tier in view.ledger.tiers()), default=0)
    return rank <= max(0, view.now_ms - told) // view.budget_ms


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


def reason_to_stop(stop: Stop, view: View, *, own_ms: Sequence[int], hours: float, running: int = 0) -> str:
    """Why the node has done enough, or "": its own experiments were told at ``own_ms``, the first of them
    ``hours`` ago; so many more are ``running``.
    """
    if stop.experiments is not None and len(own_ms) + running >= stop.experiments:
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
        since_ms=view.since_ms, budget_ms=view.budget_ms,
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
