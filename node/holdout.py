"""Whether the search fits the validation data instead of the task: metric and hold-out beside each other.

Both are told in losses here: lower is better whatever the program's goal. No proposer hears of any of it.
"""

import logging
import statistics

from protocol.ledger import Ledger
from protocol.standing import proof_gap

log = logging.getLogger(__name__)


def gap(ledger: Ledger, commit: str, tier: str) -> float | None:
    """How much worse the hold-out is than the metric, on average over the runs that have both."""
    pairs = _pairs(ledger, commit, tier)
    return statistics.fmean(holdout - metric for metric, holdout in pairs) if pairs else None


def drift(ledger: Ledger, tier: str) -> str:
    """The incumbent, where its metric is better than an accepted ancestor's and its hold-out worse, beyond noise.

    The latter by as much as a proof needs. "" where there is no such thing.
    """
    incumbent = ledger.incumbent(tier)
    if incumbent is None:
        return ""
    own = _pairs(ledger, incumbent.commit, tier)
    for commit in ledger.lineage(incumbent.commit)[:-1]:
        standing, pairs = ledger.standing(commit, tier), _pairs(ledger, commit, tier)
        if standing is None or not standing.accepted or not pairs or not own:
            continue
        gained = statistics.fmean(metric for metric, _ in pairs) - statistics.fmean(metric for metric, _ in own)
        lost = statistics.fmean(holdout for _, holdout in own) - statistics.fmean(holdout for _, holdout in pairs)
        if gained > 0 and lost > proof_gap(ledger.yardstick(tier), len(own), len(pairs)):
            return incumbent.commit
    return ""


class Alarm:
    """Warns of drift, once for each incumbent."""

    def __init__(self, ledger: Ledger, tier: str) -> None:
        self._ledger = ledger
        self._tier = tier
        self._said: set[str] = set()

    def look(self) -> None:
        commit = drift(self._ledger, self._tier)
        if commit and commit not in self._said:
            self._said.add(commit)
            log.warning(
                "the metric of %s is better than that of what it was made from, and its hold-out is worse: the "
                "search may fit the validation data", commit[:12],
            )  # fmt: skip


def _pairs(ledger: Ledger, commit: str, tier: str) -> list[tuple[float, float]]:
    """(metric, hold-out) of the runs that have both."""
    sign = -1.0 if ledger.rules.maximize else 1.0
    return [
        (run.loss, sign * run.result.holdout)
        for run in ledger.runs(commit, tier)
        if run.loss is not None and run.result.holdout is not None
    ]
