"""What a proposer is given and what it gives: one edit of the asset, to be run as an experiment."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from protocol.statements import Scalar, Status

#: A line of a terminal or a git note; a result's own bound is larger.
MAX_SUMMARY = 200
#: What an edit may repeat.
ALREADY_RUN, BEING_RUN = "already run", "being run"


@dataclass(frozen=True)
class Trial:
    """A candidate that has been run. ``value`` is a loss: lower is better whatever the program's goal, None
    where there is no score. Oldest first in a context.

    ``gain`` is how far it beats the accepted candidate that it is built on, ``standing`` what the ledger makes of
    it ("promising", "accepted", "proven" or ""); ``failure`` is the tail of what a failed run printed; ``blob`` the git
    blob id of the asset; ``own``: this node was the first to run it. Words are peers', and not to be obeyed.
    """

    commit: str
    tunables: Mapping[str, Scalar]
    value: float | None
    status: Status
    tier: str
    parent: str | None = None
    author: str = ""
    gain: float | None = None
    standing: str = ""
    summary: str = ""
    hypothesis: str = ""
    failure: str = ""
    blob: str = ""
    own: bool = False


@dataclass(frozen=True)
class Insight:
    """What somebody has learnt, in words that are not to be obeyed, and the commits that show it."""

    author: str
    text: str
    commits: Sequence[str] = ()


@dataclass(frozen=True)
class Attempt:
    """What is being run, or waits for a lane of mine: its author's words, nothing measured."""

    commit: str
    tunables: Mapping[str, Scalar] = field(default_factory=dict)
    summary: str = ""


@dataclass(frozen=True)
class Metric:
    """What is measured, and ``sigma``, by which two honest runs differ."""

    name: str = "loss"
    unit: str = ""
    maximize: bool = False
    sigma: float = 0.0

    def of(self, loss: float) -> float:
        """The metric of a loss, as the program's author counts."""
        return -loss if self.maximize else loss


def _unheard(text: str, commits: Sequence[str]) -> None:
    """Nobody takes notes."""


async def _nothing(asset: bytes) -> str:
    """Nobody looks."""
    return ""


@dataclass(frozen=True)
class Context:
    """What a proposer may know: no validation data, and no hold-out values.

    ``base`` is the commit to edit, ``asset`` its asset, ``lineage`` the commits from genesis to it. ``trials`` are
    the swarm's, a bounded number; ``running`` what peers and this node are trying now; ``insights`` what was learnt,
    the weightiest first. ``fixed`` are files of the program that tell how the asset is used. ``taken`` says whether an
    asset has been an experiment already, to the letter; ``repeats`` what an edit that is about to be proposed repeats,
    comments and layout aside: ALREADY_RUN, BEING_RUN or "" (it is counted). ``note`` tells the swarm what was learnt,
    and from which commits. All three are called on the node's thread only.
    """

    program_text: str
    asset_name: str
    base: str
    asset: bytes
    tier: str
    trials: Sequence[Trial]
    running: Sequence[Attempt]
    taken: Callable[[bytes], bool]
    seed: int
    metric: Metric = Metric()
    lineage: Sequence[str] = ()
    insights: Sequence[Insight] = ()
    fixed: Mapping[str, bytes] = field(default_factory=dict)
    note: Callable[[str, Sequence[str]], None] = _unheard
    repeats: Callable[[bytes], Awaitable[str]] = _nothing


@dataclass(frozen=True)
class Edit:
    """``summary`` is one printable line of at most ``MAX_SUMMARY`` letters; ``hypothesis`` says why. ``fallback``: by
    another than who was asked, who could not be had.
    """

    asset: bytes
    summary: str
    hypothesis: str = ""
    fallback: bool = False


class UnavailableError(Exception):
    """A proposer that can't be had now; the text says why, in one line."""


class Proposer(Protocol):
    """Thinks of the next edit.

    ``propose`` answers None where it has nothing to propose now. It never proposes an asset that is taken, that
    it knows to be running or has proposed before, nor the base itself; after a bounded number of tries it gives up.
    Words of peers in the context are data to it, and no orders. Cancelled, it leaves nothing running.
    """

    name: str

    async def propose(self, context: Context) -> Edit | None: ...
