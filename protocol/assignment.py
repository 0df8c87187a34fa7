"""Who replicates and confirms, and when (DESIGN section 5, rule 6): a pure function of ledger, live peers and
now.

What is wanted is policy, small functions with their reasons; whose turn it is follows from hash(commit ‖
peer), so that peers who hold the same records divide the work without a word. A Claim says that somebody has
begun.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from protocol.ledger import Ledger
from protocol.standing import MAX_CONFIRMATIONS, MAX_RUNS_AN_AUTHOR, Standing, place, proof_gap
from protocol.statements import Claim, Origin
from protocol.trust import OWN_WIN, broken_promises, unchecked

#: Genesis' runs at the start of a tier: one gives a bar, two give a first idea of the noise.
GENESIS_RUNS = 2
#: Alone, a candidate waits for so many budgets before I replicate it if I need not (a clear win, from which I
#: search on at once) or if it is a trifle: by then a better one has often taken its place. With others there
#: is no wait: they replicate while I go on, and believe nothing before two authors agree.
ALONE_WAIT = 6
#: For each so many peers one promising candidate is replicated at once; those behind wait for a budget more each. Peers
#: search on from the best meanwhile (``protocol.trust.LEAD``), and when it is accepted the others are rebased onto it.
#: They wait and are not left out, or a liar's wonders would keep out what is true.
PEERS_A_REPLICATION = 8
#: A claim holds others off until the want has been there for so many budgets, and then less and less: half of the
#: claims are heeded no more, and with each budget half of the rest. Who claims and tells nothing, for whatever
#: reason, costs a little time and no more, and so do a hundred of them.
CLAIM_TURNS = 3
#: A candidate that I believe by others' word is checked when nobody has run it for so many budgets. While gains come
#: fast the next one is here by then, and a quarter of the swarm would have run each of them.
AUDIT_HOLD = 2
#: Less than this share of the typical step is a trifle: what it may gain is less than what a new edit may.
TRIFLE = 0.25
#: The typical step is taken over so many accepted ones: enough to average, few enough to notice when gains
#: shrink.
RECENT_STEPS = 8
#: An incumbent is run again until its mean is known to within this share of the typical step. Otherwise its
#: luck (it was selected) sets a bar that honest steps of that size can't pass; and where steps are large
#: against the noise this asks for nothing.
KNOWN_TO = 0.5
#: It is run again for that after it has stood for so many experiments of the swarm: one that is soon
#: surpassed needs no such care. In 200 simulated nights of half-σ gains: 14 σ of true progress, against 11 σ
#: without the pause.
PACE = 7
#: What is not proven yet is worth proving when it is this share of all progress; so the proof is never far
#: behind, and the number of proofs grows with the logarithm of progress only.
UNPROVEN_SHARE = 0.25
#: Expected to succeed with confirmations still allowed: the gain must be this many times the gap they would
#: need.
LIKELY = 1.2


@dataclass(frozen=True, slots=True)
class Duty:
    """A run that I should make now. ``rank`` is my place in the order of peers for it; 0 is the first."""

    commit: str
    tier: str
    origin: Origin
    index: int
    rank: int


@dataclass(frozen=True, slots=True)
class Want:
    """Runs that the swarm should make of a candidate: so many, and who comes first.

    ``hold`` budgets pass before anybody's turn; ``again`` puts those first who ran it already.
    """

    commit: str
    origin: Origin
    runs: int = 1
    hold: int = 0
    again: bool = False


def duties(
    ledger: Ledger,
    *,
    me: bytes,
    tier: str,
    live: Collection[bytes],
    claims: Collection[tuple[bytes, Claim]],
    now_ms: int,
    since_ms: int,
    budget_ms: int,
) -> list[Duty]:
    """What I should run now, the most urgent first.

    ``live`` are the public keys of peers of my tier heard lately, with or without me; ``claims`` those in
    force. ``since_ms`` is when I came: turns pass from then on for what nobody has run yet.
    """
    others = frozenset(live) - {me}
    broken = broken_promises(ledger, me)
    found: dict[str, Duty] = {}
    check = unchecked(ledger, me=me, tier=tier)
    if check is not None:
        commit, believed = check
        if not believed or now_ms - ledger.latest_ms(commit, tier) >= AUDIT_HOLD * budget_ms:
            _take(found, ledger, Want(commit, Origin.REPLICATION), tier, me, rank=0)
    for want in wanted(ledger, tier, peers=1 + len(others), broken=broken):
        passed = max(0, now_ms - (ledger.latest_ms(want.commit, tier) or since_ms)) // budget_ms
        claimed = {peer for peer, claim in claims if (claim.commit, claim.tier) == (want.commit, tier)} - broken - {me}
        before = _before(ledger, want, tier, me, others)
        late = max(0, passed - want.hold - CLAIM_TURNS)
        taken, ahead = len(claimed) >> late, len(before) + (len(claimed - before) >> late)
        if taken < want.runs and ahead + want.hold < want.runs + passed:
            _take(found, ledger, want, tier, me, rank=len(before))
    return list(found.values())


def _take(found: dict[str, Duty], ledger: Ledger, want: Want, tier: str, me: bytes, rank: int) -> None:
    """The duty to do my part of ``want``, unless I have one there already or my run would not count."""
    if want.commit not in found and _room(ledger, want, tier, me):
        index = ledger.next_index(want.commit, tier, me, want.origin)
        found[want.commit] = Duty(want.commit, tier, want.origin, index, rank)


def wanted(
    ledger: Ledger, tier: str, *, peers: int, broken: frozenset[bytes] = frozenset()
) -> Iterator[Want]:
    """What the swarm should run of what it has, the most urgent first. ``broken`` are authors not to be
    heeded.
    """
    yield from _genesis(ledger, tier)
    yield from _decisions(ledger, tier, broken)
    yield from _replications(ledger, tier, peers, broken)
    yield from confirmations(ledger, tier, peers)


def _genesis(ledger: Ledger, tier: str) -> Iterator[Want]:
    genesis = ledger.rules.genesis
    ran = sum(len(mine.losses) + mine.failed for mine in ledger.averages(genesis, tier).values())
    if ran < GENESIS_RUNS:
        origin = Origin.REPLICATION if ran else Origin.BASELINE
        yield Want(genesis, origin, GENESIS_RUNS - ran if ran else 1, again=True)


def _decisions(ledger: Ledger, tier: str, broken: frozenset[bytes]) -> Iterator[Want]:
    """Two authors disagree: a third decides, if it matters."""
    for commit in ledger.disputed(tier):
        standing = ledger.standing(commit, tier)
        if standing is not None and _matters(ledger, standing, broken):
            yield Want(commit, Origin.REPLICATION)


def _matters(ledger: Ledger, standing: Standing, broken: frozenset[bytes]) -> bool:
    if standing.accepted:
        return True
    incumbent = ledger.incumbent(standing.tier)
    if incumbent is None or incumbent.value is None:
        return True
    averages = ledger.averages(standing.commit, standing.tier)
    best = min((mine.mean for author, mine in averages.items() if author not in broken), default=None)
    return best is not None and best < incumbent.value


def _replications(ledger: Ledger, tier: str, peers: int, broken: frozenset[bytes]) -> Iterator[Want]:
    """Promising candidates that would be incumbent, the best first and the others later (``PEERS_A_REPLICATION``).

    One that beats its own base but not the incumbent is left to be rebased: replicated, it would not be
    searched from. Alone, only the best one, and neither a clear win nor a trifle at once (``ALONE_WAIT``).
    """
    incumbent = ledger.incumbent(tier)
    before = 0
    for commit in ledger.promising(tier):
        standing = ledger.standing(commit, tier)
        if standing is None or standing.value is None:
            continue
        ahead = incumbent is None or incumbent.commit == standing.base or _better(standing, incumbent)
        missing = ledger.rules.replications - standing.runs
        if not ahead or missing < 1 or ledger.tally(commit, tier).kept <= broken:
            continue
        if peers == 1:
            yield Want(commit, Origin.REPLICATION, missing, _hold(ledger, standing, incumbent))
            return
        yield Want(commit, Origin.REPLICATION, missing, hold=before // max(1, peers // PEERS_A_REPLICATION))
        before += 1


def _hold(ledger: Ledger, standing: Standing, incumbent: Standing | None) -> int:
    if incumbent is None or incumbent.value is None or standing.value is None:
        return 0
    advance = incumbent.value - standing.value
    clear = advance > OWN_WIN * ledger.yardstick(standing.tier)
    trifle = advance < TRIFLE * typical_step(ledger, incumbent)
    return ALONE_WAIT if clear or trifle else 0


def typical_step(ledger: Ledger, incumbent: Standing) -> float:
    """The mean gain (loss) of the latest accepted steps that led to the incumbent; 0 where it is genesis."""
    steps, oldest = 0, incumbent
    while steps < RECENT_STEPS and oldest.base != oldest.commit:
        base = ledger.standing(oldest.base, oldest.tier)
        if base is None or base.value is None:
            break
        steps, oldest = steps + 1, base
    if not steps or oldest.value is None or incumbent.value is None:
        return 0.0
    return (oldest.value - incumbent.value) / steps


def _better(one: Standing, other: Standing) -> bool:
    return one.value is not None and other.value is not None and one.value < other.value


def confirmations(ledger: Ledger, tier: str, peers: int) -> Iterator[Want]:
    """When to confirm. Two reasons, each with a limit that follows from the gains seen relative to the noise:
    to know the incumbent as well as its step asks (``KNOWN_TO``, ``PACE``), and to keep the proof near
    (``UNPROVEN_SHARE``). A flat share would be wasted where gains are large, and leave the proof behind.
    """
    incumbent = ledger.incumbent(tier)
    if incumbent is None:
        return
    yield from _lagging(ledger, incumbent)
    if not _known(ledger, incumbent):
        yield Want(incumbent.commit, Origin.CONFIRMATION, hold=(PACE - 1) // peers)


def _known(ledger: Ledger, incumbent: Standing) -> bool:
    """Whether the incumbent's mean is a fair bar: known well enough, or as well as counted runs can tell."""
    if incumbent.gain is None or incumbent.confirmations >= MAX_CONFIRMATIONS:
        return True
    step = typical_step(ledger, incumbent)
    return incumbent.runs * (KNOWN_TO * step) ** 2 >= ledger.yardstick(incumbent.tier) ** 2


def _lagging(ledger: Ledger, incumbent: Standing) -> Iterator[Want]:
    """For the proof to catch up: the incumbent or the last proven, whichever has fewer confirmations."""
    tier = incumbent.tier
    last = ledger.proven_ancestor(incumbent.commit, tier)
    genesis = ledger.value(ledger.rules.genesis, tier)
    if last is None or last.commit == incumbent.commit or genesis is None:
        return
    if last.value is None or incumbent.value is None:
        return
    unproven = last.value - incumbent.value
    reachable = LIKELY * proof_gap(ledger.yardstick(tier), MAX_CONFIRMATIONS, MAX_CONFIRMATIONS)
    fewer = min(incumbent, last, key=lambda standing: standing.confirmations)
    if fewer.confirmations < MAX_CONFIRMATIONS and unproven >= max(
        UNPROVEN_SHARE * (genesis - incumbent.value), reachable
    ):
        yield Want(fewer.commit, Origin.CONFIRMATION)


def _before(ledger: Ledger, want: Want, tier: str, me: bytes, others: frozenset[bytes]) -> frozenset[bytes]:
    """The peers before me: who has not run it comes first (or last, for ``again``), then by hash."""
    ran = ledger.averages(want.commit, tier)

    def order(peer: bytes) -> tuple[bool, bytes]:
        return (peer in ran) != want.again, place(want.commit, peer)

    return frozenset(peer for peer in others if order(peer) < order(me))


def _room(ledger: Ledger, want: Want, tier: str, me: bytes) -> bool:
    """Whether another run of mine would count: confirmations take the place of others, others of none."""
    if ledger.next_index(want.commit, tier, me, want.origin) >= MAX_RUNS_AN_AUTHOR:
        return False
    mine = ledger.averages(want.commit, tier).get(me)
    full = mine is not None and len(mine.losses) + mine.failed >= MAX_RUNS_AN_AUTHOR
    return want.origin is Origin.CONFIRMATION or not full
