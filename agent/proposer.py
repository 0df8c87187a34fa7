"""What a proposer is given and what it gives: one edit of the asset, to be run as an experiment."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from protocol.statements import Scalar, Status

#: A line of a terminal or a git note; a result's own bound is larger.
MAX_SUMMARY = 200


@dataclass(frozen=True)
class Trial:
    """A candidate that has been run. ``value`` is a loss: lower is better whatever the program's goal, None
    where there is no score. Oldest first in a context."""

    commit: str
    tunables: Mapping[str, Scalar]
    value: float | None
    status: Status
    tier: str


@dataclass(frozen=True)
class Context:
    """What a proposer may know: no validation data, and no hold-out values.

    ``base`` is the commit to edit and ``asset`` its asset. ``trials`` are the swarm's, a bounded number;
    ``running`` what peers are trying now. ``taken`` says whether an asset has been an experiment already;
    it is called on the node's thread only.
    """

    program_text: str
    asset_name: str
    base: str
    asset: bytes
    tier: str
    trials: Sequence[Trial]
    running: Sequence[Mapping[str, Scalar]]
    taken: Callable[[bytes], bool]
    seed: int


@dataclass(frozen=True)
class Edit:
    """``summary`` is one printable line of at most ``MAX_SUMMARY`` letters; ``hypothesis`` says why."""

    asset: bytes
    summary: str
    hypothesis: str = ""


class Proposer(Protocol):
    """Thinks of the next edit.

    ``propose`` answers None where it has nothing to propose now. It never proposes an asset that is taken or
    that it has proposed before, nor the base itself. Cancelled, it leaves nothing running.
    """

    name: str

    async def propose(self, context: Context) -> Edit | None: ...
