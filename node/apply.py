"""From records to assets: a candidate's asset is its parent's with the record's diff applied, all the way
from genesis, and its blob id tells whether it is the right one.
"""

from collections.abc import Awaitable, Callable

from gossip.seen import Seen
from node.lineage import Lineage, Step
from protocol.commits import blob_id
from protocol.diffs import apply_diff, decompress
from protocol.errors import RemoteProtocolError
from protocol.identity import peer_id
from protocol.ledger import Candidate, Ledger

#: Records whose diff is known to be wrong, so that each is told of once: as many as strangers may well send in a night.
MOST_WRONG = 10_000

#: Asks peers for the asset of a commit; the check tells the right bytes from others.
Fetch = Callable[[str, Callable[[bytes], bool]], Awaitable[bytes | None]]


class UnavailableError(Exception):
    """An asset that neither we nor any peer asked could give."""


class Assets:
    """Assets of all candidates in the ledger, wherever they have to come from. ``on_wrong`` hears why a diff was
    refused, and its author's peer id; who passed it on could not know.
    """

    def __init__(
        self, ledger: Ledger, lineage: Lineage, path: str, fetch: Fetch,
        on_wrong: Callable[[str, str], None] = lambda reason, peer: None,
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._lineage = lineage
        self._path = path
        self._fetch = fetch
        self._on_wrong = on_wrong
        self._wrong = Seen[str](MOST_WRONG)

    def held(self, commit: str) -> bytes | None:
        """The asset, where it is at hand or follows from records that are."""
        asset, missing = self._nearest(commit)
        for candidate in missing:
            asset = None if asset is None else self._applied(candidate, asset)
        return asset

    async def obtain(self, commit: str) -> bytes:
        """The asset, from then on in the lineage with all that lead to it. Raises UnavailableError."""
        asset, missing = self._nearest(commit)
        if asset is None:
            raise UnavailableError(f"{commit[:12]}: not all its ancestors are known")
        steps = []
        for candidate in missing:
            applied = self._applied(candidate, asset)
            asset = await self._fetched(candidate) if applied is None else applied
            assert candidate.parent is not None
            steps.append(Step(candidate.commit, candidate.parent, asset))
        await self._lineage.write(steps)
        return asset

    def _nearest(self, commit: str) -> tuple[bytes | None, list[Candidate]]:
        """The asset of the nearest ancestor in the lineage, and the candidates from there to ``commit``."""
        missing: list[Candidate] = []
        here: str | None = commit
        while here is not None:
            asset = self._lineage.asset(here)
            if asset is not None:
                return asset, missing[::-1]
            candidate = self._ledger.candidate(here)
            if candidate is None:
                break
            missing.append(candidate)
            here = candidate.parent
        return None, []

    def _applied(self, candidate: Candidate, parent: bytes) -> bytes | None:
        """``parent`` with the diff of some record of the candidate that leads to its blob."""
        tried: set[bytes] = {b""}
        for run in self._ledger.runs(candidate.commit):
            diff = run.result.diff
            if diff in tried:
                continue
            tried.add(diff)
            try:
                return self._checked(diff, parent, candidate)
            except RemoteProtocolError as error:  # another record may carry the right one, or a peer has the asset
                if self._wrong.add(run.record_id):
                    self._on_wrong(error.reason, peer_id(run.author))
        return None

    def _checked(self, diff: bytes, parent: bytes, candidate: Candidate) -> bytes:
        """Raises RemoteProtocolError for a diff that does not lead from ``parent`` to the candidate's blob."""
        asset = apply_diff(parent, decompress(diff), self._path)
        if blob_id(asset) != candidate.blob:
            raise RemoteProtocolError("diff", "it leads to another asset")
        return asset

    async def _fetched(self, candidate: Candidate) -> bytes:
        asset = await self._fetch(candidate.commit, lambda data: blob_id(data) == candidate.blob)
        if asset is None:
            raise UnavailableError(f"{candidate.commit[:12]}: no diff leads to it and no peer has it")
        return asset
