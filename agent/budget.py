"""What a proposer may spend: tokens for one proposal, in an hour, and in all; looked at before each call."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

#: Letters of a token, somewhat fewer than there are in source text: an estimate must not fall short.
LETTERS_A_TOKEN = 3
HOUR_SECONDS = 3600.0


@dataclass(frozen=True)
class Limits:
    """Tokens; None is without a limit."""

    proposal: int | None = 200_000
    hour: int | None = None
    total: int | None = None


class SpentError(Exception):
    """There is nothing left to spend; the text says of what, and until when."""


class ProposalSpentError(SpentError):
    """There is nothing left for this proposal; there is for the next."""


class Budget:
    """``clock`` gives seconds, ``total`` is what was spent before."""

    def __init__(self, limits: Limits, clock: Callable[[], float], total: int = 0) -> None:
        self._limits = limits
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()
        self._proposal = 0
        self.total = total

    def begin(self) -> None:
        """Another proposal."""
        self._proposal = 0

    def check(self, letters: int, answer: int) -> None:
        """Whether a call with so many letters, and an answer of so many tokens, may be made. Raises SpentError."""
        tokens = letters // LETTERS_A_TOKEN + answer
        limits = self._limits
        if limits.total is not None and self.total + tokens > limits.total:
            raise SpentError(f"the {limits.total} tokens of --max-tokens are spent")
        if limits.hour is not None and self._of_the_hour() + tokens > limits.hour:
            raise SpentError(f"the {limits.hour} tokens of this hour are spent")
        if limits.proposal is not None and self._proposal + tokens > limits.proposal:
            raise ProposalSpentError(f"the {limits.proposal} tokens of one proposal are spent")

    def spend(self, tokens: int) -> None:
        self.total += tokens
        self._proposal += tokens
        self._spent.append((self._clock(), tokens))

    def _of_the_hour(self) -> int:
        while self._spent and self._spent[0][0] <= self._clock() - HOUR_SECONDS:
            self._spent.popleft()
        return sum(tokens for _, tokens in self._spent)
