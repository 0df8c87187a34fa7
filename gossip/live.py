"""Who is here, and what they are about to run: presences and claims, in memory only."""

from collections import OrderedDict
from collections.abc import Callable

from protocol.identity import public_key_of
from protocol.records import Claim, Presence, Record, Result

#: Each node says that it is here this often, and less often where all of them together would pass
#: ``PRESENCES_A_SECOND``: the cost of presence to a node does not grow with the swarm.
PRESENCE_SECONDS = 20.0
PRESENCES_A_SECOND = 1.0
#: Keys are soon made, and each counts as a node for a while: whatever they are, presences come twice as often as they
#: get too old to be passed on (``gate.STALE_MS``). 2,000 real nodes cost each other seven a second.
MOST_PRESENCE_SECONDS = 300.0
#: Claims of all nodes together: where more would come, each node tells of some of its own only.
CLAIMS_A_SECOND = 2.0
#: Results that nothing depends on, of all nodes together, in gossip: proposers learn from what others have just tried,
#: and a minute is long where a run takes seconds. More than these wait for sync, which costs less.
RESULTS_A_SECOND = 1.0
#: Three presences missed, by loss or by absence.
MISSED = 3
#: A run may take some of its budget more, to start and to be examined.
CLAIM_BUDGETS = 1.5
CLAIM_GRACE_MS = 60_000
#: A node runs an experiment in each lane; some that it dropped may still stand.
CLAIMS_AN_AUTHOR = 16
#: So many nodes are told apart; more would be a flood of keys.
MAX_AUTHORS = 2000
#: Of all authors: as many as have one each, of some kilobytes at most (``gossip.gate``).
MAX_CLAIMS = 2000
#: Results that are remembered to have ended a claim, so that it is not in force again when somebody who has not heard
#: of them passes it on.
ENDED = 4096


class Live:
    """Presences of others and claims, by author. ``clock_ms`` is milliseconds since 1970."""

    def __init__(self, me: bytes, clock_ms: Callable[[], int]) -> None:
        self._me = me
        self._clock_ms = clock_ms
        self._heard: OrderedDict[bytes, tuple[int, Record]] = OrderedDict()
        self._claims: OrderedDict[bytes, dict[str, tuple[int, Record]]] = OrderedDict()
        self._ended: OrderedDict[tuple[bytes, str], int] = OrderedDict()

    def hear(self, record: Record) -> None:
        """A presence or claim that was checked; an older one than is known changes nothing."""
        if isinstance(record.statement, Claim):
            self._hear_claim(record, record.statement)
        elif isinstance(record.statement, Presence) and record.author != self._me:
            self._hear_presence(record, record.statement)

    def hear_result(self, record: Record) -> None:
        """A result ends what its author claimed of the same commit before."""
        result = record.statement
        if not isinstance(result, Result):
            return
        name = record.author, result.commit
        self._ended[name] = max(result.created_ms, self._ended.pop(name, 0))
        if len(self._ended) > ENDED:
            self._ended.popitem(last=False)
        _, claimed = self._claims.get(record.author, {}).get(result.commit, (0, None))
        if claimed is not None and _claim(claimed).created_ms <= result.created_ms:
            del self._claims[record.author][result.commit]

    def presences(self) -> dict[str, Presence]:
        """By peer id, of those heard lately."""
        return {record.peer_id: _presence(record) for record in self.present()}

    def knows(self, peer: str) -> bool:
        """Whether a presence of this peer was heard lately."""
        heard_ms, _ = self._heard.get(public_key_of(peer), (0, None))
        return heard_ms >= self._lately_ms

    def present(self) -> list[Record]:
        """The presences of those heard lately, as records that can be passed on."""
        return [record for heard_ms, record in self._heard.values() if heard_ms >= self._lately_ms]

    def claimed(self) -> list[Record]:
        """The claims in force, ours as well, as records that can be passed on."""
        now_ms = self._clock_ms()
        return [record for claims in self._claims.values() for ends_ms, record in claims.values() if ends_ms > now_ms]

    def claims(self) -> list[tuple[bytes, Claim]]:
        """Others' claims in force."""
        return [(record.author, _claim(record)) for record in self.claimed() if record.author != self._me]

    @property
    def interval(self) -> float:
        """Seconds between two presences of one node."""
        return min(MOST_PRESENCE_SECONDS, max(PRESENCE_SECONDS, len(self._heard) / PRESENCES_A_SECOND))

    @property
    def _lately_ms(self) -> int:
        return self._clock_ms() - round(1000 * MISSED * self.interval)

    def share(self, a_second: float, budget_seconds: float) -> float:
        """Which share each node tells of what every node makes once in a budget, so that so many come in a second."""
        nodes = len(self._heard) + 1
        return min(1.0, a_second * budget_seconds / nodes)

    def sweep(self) -> None:
        """Forget who was not heard for long, and what is over."""
        now_ms, since_ms = self._clock_ms(), self._lately_ms
        for author in [author for author, (heard_ms, _) in self._heard.items() if heard_ms < since_ms]:
            del self._heard[author]
        for author, claims in list(self._claims.items()):
            self._claims[author] = {name: item for name, item in claims.items() if item[0] > now_ms}
            if not self._claims[author]:
                del self._claims[author]

    def _hear_presence(self, record: Record, presence: Presence) -> None:
        known = self._heard.get(record.author)
        if known is not None and _presence(known[1]).created_ms >= presence.created_ms:
            return  # passed on again, which does not make its author live
        self._heard[record.author] = (self._clock_ms(), record)
        self._heard.move_to_end(record.author)
        if len(self._heard) > MAX_AUTHORS:
            self._heard.popitem(last=False)

    def _hear_claim(self, record: Record, claim: Claim) -> None:
        if claim.created_ms <= self._ended.get((record.author, claim.commit), -1):
            return
        claims = self._claims.pop(record.author, {})
        self._claims[record.author] = claims
        _, known = claims.pop(claim.commit, (0, None))
        if known is not None and _claim(known).created_ms > claim.created_ms:
            record, claim = known, _claim(known)  # an older one was passed on
        claims[claim.commit] = (min(claim.created_ms, self._clock_ms()) + lasts_ms(claim), record)
        if len(claims) > CLAIMS_AN_AUTHOR:
            del claims[next(iter(claims))]
        while sum(map(len, self._claims.values())) > MAX_CLAIMS:
            self._claims.popitem(last=False)


def lasts_ms(claim: Claim) -> int:
    """How long a claim stands that nothing ends."""
    return round(1000 * CLAIM_BUDGETS * claim.budget_seconds) + CLAIM_GRACE_MS


def _presence(record: Record) -> Presence:
    assert isinstance(record.statement, Presence)
    return record.statement


def _claim(record: Record) -> Claim:
    assert isinstance(record.statement, Claim)
    return record.statement
