"""What one node believes (DESIGN section 5, "Trust is the node's, not the ledger's").

The ledger counts everybody alike, so enough sock puppets can make it say anything. A node believes its own
runs first, then what at least two authors share who have not misled it before; and it checks one in four of
those. Every function is a pure one of the ledger and of who asks.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from protocol.ledger import Ledger
from protocol.standing import DISAGREE, Average, Standing

#: A win of one's own by more than this many σ may be searched from before anybody else has seen it.
OWN_WIN = 3.0
#: A peer's win by more than this many σ is searched from while others replicate it: by the time it would be believed, a
#: swarm of eight has made a dozen edits of what it replaces. It may be luck, or a lie: then they are lost, no more.
LEAD = 1.0
#: It is followed for so many budgets from when it was told: it is replicated within two, or something keeps it from
#: being.
LEAD_BUDGETS = 4
#: Authors who must share a value that I have not measured myself.
SHARED_BY = 2
#: One candidate in this many I run myself although others agree on it.
AUDIT_ONE_IN = 4
#: Honest averages differ by the test's 4 σ once in 16,000 pairs; one in twenty is no chance.
TOLERATED_SHARE = 1 / 20


@dataclass(frozen=True, slots=True)
class Base:
    """A candidate that I may search from. ``value`` (loss) is what I believe of it; ``own``: I ran it
    myself.
    """

    commit: str
    value: float
    own: bool
    authors: int


def broken_promises(ledger: Ledger, me: bytes) -> frozenset[bytes]:
    """Authors whose averages my own runs refuted, oftener than chance would."""
    tested: Counter[bytes] = Counter()
    refuted: Counter[bytes] = Counter()
    for tier in ledger.tiers():
        yard = ledger.yardstick(tier)
        for commit in ledger.shared(me, tier):
            averages = ledger.averages(commit, tier)
            mine = averages.get(me)
            if mine is None or mine.failing:
                continue  # my own failure may be my machine's
            for author, theirs in averages.items():
                if author != me:
                    tested[author] += 1
                    refuted[author] += _refuted(mine, theirs, yard)
    return frozenset(author for author, times in refuted.items() if times > TOLERATED_SHARE * tested[author])


def _refuted(mine: Average, theirs: Average, yard: float) -> bool:
    if theirs.failing:
        return mine.failed == 0
    error = yard * math.sqrt(1 / len(mine.losses) + 1 / len(theirs.losses))
    return abs(mine.mean - theirs.mean) > DISAGREE * error


def usable_bases(ledger: Ledger, *, me: bytes, tier: str, now_ms: int = 0, budget_ms: int = 0) -> list[Base]:
    """What I may search from in my tier, the best first: what is not accepted yet and beats all that I believe, my own
    clear wins and peers' leads of the last ``LEAD_BUDGETS``; then accepted candidates.
    """
    broken = broken_promises(ledger, me)
    bases = [base for commit in ledger.accepted(tier) if (base := _belief(ledger, commit, tier, me, broken))]
    bases.sort(key=lambda base: (base.value, base.commit))
    bar = bases[0].value if bases else math.inf
    leads = _leads(ledger, tier, me, bar, broken, now_ms - LEAD_BUDGETS * budget_ms)
    wins = sorted([*_own_wins(ledger, tier, me, bar), *leads], key=lambda base: (base.value, base.commit))
    return wins + bases


def headline(ledger: Ledger, *, me: bytes) -> Standing | None:
    """The best accepted candidate over all tiers that I ran or that two authors share; None before there is
    one.
    """
    broken = broken_promises(ledger, me)
    found: list[tuple[float, str, Standing]] = []
    for tier in ledger.tiers():
        for commit in ledger.accepted(tier):
            belief, standing = _belief(ledger, commit, tier, me, broken), ledger.standing(commit, tier)
            if belief is not None and standing is not None:
                found.append((belief.value, commit, standing))
                break
    return min(found, key=lambda item: item[:2], default=(0.0, "", None))[2]


def unchecked(ledger: Ledger, *, me: bytes, tier: str) -> tuple[str, bool] | None:
    """The accepted candidate that I should run myself next, if any, and whether I believe it meanwhile.

    Either one better than all that I believe, on which the word of authors I have no reason to doubt is not
    enough; or the best that I believe, where it is the one in four that I check.
    """
    broken = broken_promises(ledger, me)
    for commit in ledger.accepted(tier):
        ran = me in ledger.averages(commit, tier)
        if _belief(ledger, commit, tier, me, broken) is not None:
            return (commit, True) if not ran and audits(me, commit) else None
        if not ran and not ledger.tally(commit, tier).kept <= broken:
            return commit, False
    return None


def audits(me: bytes, commit: str) -> bool:
    """Whether this candidate is the one in four that I run myself though others agree; nobody else can
    foretell how many will.
    """
    digest = hashlib.sha256(b"\x00".join((b"waggle-audit", commit.encode(), me))).digest()
    return digest[0] % AUDIT_ONE_IN == 0


def _belief(ledger: Ledger, commit: str, tier: str, me: bytes, broken: frozenset[bytes]) -> Base | None:
    """What I believe of an accepted candidate, or None.

    Having run it, I believe it where my average agrees with its value or is better. Not having run it, I
    believe it where at least two authors agree and no author contradicts, those aside who misled me.
    """
    tally = ledger.tally(commit, tier)
    if tally.value is None:
        return None
    averages = ledger.averages(commit, tier)
    reach = DISAGREE * ledger.yardstick(tier)
    trusted = {author: mine for author, mine in averages.items() if author not in broken}
    agreeing = [author for author, mine in trusted.items() if abs(mine.mean - tally.value) <= reach]
    mine = averages.get(me)
    if mine is None:
        shared = SHARED_BY <= len(agreeing) == len(trusted)
        return Base(commit, tally.value, False, len(agreeing)) if shared else None
    if mine.mean > tally.value + reach:
        return None
    believed = tally.value if me in agreeing else mine.mean
    return Base(commit, believed, True, max(1, len(agreeing)))


def _own_wins(ledger: Ledger, tier: str, me: bytes, bar: float) -> Iterator[Base]:
    """Candidates not accepted yet that my own runs put clearly below the best I believe."""
    margin = OWN_WIN * ledger.yardstick(tier)
    for standing in _pending(ledger, tier):
        mine = ledger.averages(standing.commit, tier).get(me)
        outvoted = not standing.disputed and me not in ledger.tally(standing.commit, tier).kept
        if mine is None or outvoted:
            continue
        if _advance(ledger, standing, mine.mean, standing.lines, bar) > margin:
            yield Base(standing.commit, mine.mean, True, standing.authors)


def _leads(
    ledger: Ledger, tier: str, me: bytes, bar: float, broken: frozenset[bytes], since_ms: int
) -> Iterator[Base]:
    """Peers' wins that wait for nothing but replications, where nobody who tells of them is doubted.

    Of their lines only those added count: how many were removed is a peer's bare word.
    """
    doubted = cache(lambda author: author in broken or _contradicted(ledger, author, tier, broken))
    margin = LEAD * ledger.yardstick(tier)
    for standing in () if ledger.rules.review else _pending(ledger, tier):
        commit, authors = standing.commit, ledger.averages(standing.commit, tier).keys()
        waits = not standing.disputed and standing.runs < ledger.rules.replications
        if standing.value is None or me in authors or not waits:
            continue
        if _advance(ledger, standing, standing.value, max(0, standing.lines), bar) <= margin:
            continue
        told_ms = min(run.result.created_ms for run in ledger.runs(commit, tier))
        if told_ms >= since_ms and not any(map(doubted, authors)):
            yield Base(commit, standing.value, False, standing.authors)


def _pending(ledger: Ledger, tier: str) -> Iterator[Standing]:
    """What beats its base by somebody's word and is neither accepted nor vetoed."""
    for commit in {*ledger.promising(tier), *ledger.disputed(tier)}:
        standing = ledger.standing(commit, tier)
        if standing is not None and not standing.vetoed and not standing.accepted:
            yield standing


def _advance(ledger: Ledger, standing: Standing, value: float, lines: int, bar: float) -> float:
    """By how much ``value`` beats the best I believe and its own base, after the price of ``lines``."""
    below = ledger.value(standing.base, standing.tier)
    return min(bar, math.inf if below is None else below) - value - ledger.rules.simplicity * lines


def _contradicted(ledger: Ledger, author: bytes, tier: str, broken: frozenset[bytes]) -> bool:
    """Whether others' runs are against wins that an author was the first to tell, oftener than chance would.

    Others' wins that it ran again speak for nobody: a figure is easily copied. In a dispute the worse word counts,
    where it matters, so that a third decides it; and who misled me contradicts nobody.
    """
    wins = against = 0
    best = ledger.incumbent(tier)
    for commit in ledger.shared(author, tier):
        first, standing = ledger.told(commit), ledger.standing(commit, tier)
        kept = ledger.tally(commit, tier).kept
        if first is None or first.author != author or standing is None or kept <= broken:
            continue
        below = best.value if best is not None and standing.disputed else ledger.value(standing.base, tier)
        if below is not None and ledger.averages(commit, tier)[author].mean < below:
            wins += 1
            against += author not in kept
    return against > TOLERATED_SHARE * wins
