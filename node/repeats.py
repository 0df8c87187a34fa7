"""Whether an edit is an experiment that somebody has run, or is running now: two nodes should not do the same."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import trio

from agent.domains import TunableError
from agent.essence import essence
from agent.proposer import ALREADY_RUN, BEING_RUN, Attempt, Edit, Trial
from agent.tunables import read_tunables, write_tunables
from node.apply import Assets
from node.parts import Parts
from node.records import Records
from protocol.commits import blob_id
from protocol.statements import Claim, Scalar

#: Assets whose essence is taken for one proposal, ten milliseconds each: the base, then the latest. After a restart
#: there may be hundreds; the next proposals take the others.
MOST_READ = 50


def in_turn(claims: Iterable[tuple[bytes, Claim]]) -> list[Attempt]:
    """What peers claim, one of each author and then the next: who claims much does not hide the others."""
    told: Counter[bytes] = Counter()
    ranked: list[tuple[int, Attempt]] = []
    for author, claim in claims:
        ranked.append((told[author], Attempt(claim.commit, claim.tunables, claim.summary)))
        told[author] += 1
    return [attempt for _, attempt in sorted(ranked, key=lambda one: one[0])]


class Repeats:
    """Of one node; ``running`` says what runs now, at peers and here."""

    def __init__(
        self, parts: Parts, records: Records, assets: Assets, running: Callable[[], Iterable[Attempt]]
    ) -> None:  # fmt: skip
        self._commits = parts.program.commits
        self._name = parts.program.spec.asset
        self._meters = parts.meters
        self._blobs = records.chronicle.blobs
        self._assets = assets
        self._running = running
        self._essences: dict[str, bytes] = {}

    def taken(self, asset: bytes) -> bool:
        """Whether this very asset has been an experiment, of whatever parent."""
        return blob_id(asset) in self._blobs

    def exactly(self, asset: bytes, base: str) -> str:
        """What an edit of ``base`` repeats to the letter, or with nothing but the tunables of a claim: ALREADY_RUN,
        BEING_RUN or "".
        """
        if self.taken(asset):
            return ALREADY_RUN
        commit, values = self._commits.candidate(base, blob_id(asset)), self.tunables(asset)
        for one in self._running():
            if commit == one.commit or (values and values == dict(one.tunables) and self._only_tuned(asset, base)):
                return BEING_RUN
        return ""

    async def of(self, asset: bytes, base: str, trials: Sequence[Trial]) -> str:
        """What an edit of ``base`` repeats, comments and layout aside, among ``trials`` and what runs now; counted."""
        commits = dict.fromkeys([base, *(trial.commit for trial in trials)])
        found = self.exactly(asset, base) or await self._in_essence(asset, list(commits))
        if found:
            self._meters.duplicate(found)
        return found

    async def _in_essence(self, asset: bytes, commits: list[str]) -> str:
        known = {commit: self._essences[commit] for commit in commits if commit in self._essences}
        unread = [commit for commit in commits[:1] + commits[:0:-1] if commit not in known]
        for commit in unread[:MOST_READ]:
            if (held := self._assets.held(commit)) is not None:
                known[commit] = essence(held, self._name)
                await trio.lowlevel.checkpoint()
        self._essences = known
        return ALREADY_RUN if essence(asset, self._name) in known.values() else ""

    def attempt(self, base: str, edit: Edit) -> Attempt:
        """What running an edit of ``base`` would be."""
        return Attempt(self._commits.candidate(base, blob_id(edit.asset)), self.tunables(edit.asset), edit.summary)

    def _only_tuned(self, asset: bytes, base: str) -> bool:
        """Whether an edit changes tunables, and nothing else."""
        old = self._assets.held(base)
        if old is None or self.tunables(old) == self.tunables(asset):
            return False
        try:
            untuned = write_tunables(asset, self._name, self.tunables(old))
        except TunableError:
            return False
        return essence(untuned, self._name) == essence(old, self._name)

    def tunables(self, asset: bytes) -> dict[str, Scalar]:
        """Their values in an asset."""
        return {name: one.value for name, one in read_tunables(asset, self._name).items()}
