"""What a program fixes for its ledger."""

from dataclasses import dataclass

from protocol.commits import CommitScheme
from protocol.errors import LocalProtocolError

#: Part of the swarm id: nodes whose ledger would follow other rules are in another swarm.
RULES_VERSION = 1


@dataclass(frozen=True)
class Rules:
    """The parameters of the ledger's rules, as program.md states them.

    noise        standard deviation by which two honest runs may differ (metric units)
    simplicity   metric units that one added line must earn
    replications scored runs that a promising candidate needs to be accepted
    founder      public key whose verdicts count, or None
    review       whether only candidates that the founder approved are accepted
    """

    commits: CommitScheme
    noise: float
    simplicity: float = 0.0
    replications: int = 2
    maximize: bool = False
    founder: bytes | None = None
    review: bool = False

    def __post_init__(self) -> None:
        if not self.noise > 0:
            raise LocalProtocolError("noise must be above 0")
        if self.simplicity < 0 or self.replications < 1:
            raise LocalProtocolError("simplicity must be 0 or more, replications 1 or more")
        if self.review and self.founder is None:
            raise LocalProtocolError("review needs a founder")

    @property
    def genesis(self) -> str:
        return self.commits.genesis
