"""What a proposer may spend: tokens for one proposal, in an hour, and in all; looked at before each call."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

#: Bytes of a token, somewhat fewer than there are in source text, and as many as many a letter beyond ASCII has: an
#: estimate must not fall short.
BYTES_A_TOKEN = 3
#: What was spent is kept by the minute, so that an hour is few numbers however many its calls; a minute that has begun
#: before the hour counts whole.
MINUTE_SECONDS, HOUR_MINUTES = 60, 60


@dataclass(frozen=True)
class Limits:
    """Tokens; None is without a limit."""

    proposal: int | None = 200_000
    hour: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Spent:
    """Tokens: in all, and in each minute since 1970 of the last hour."""

    total: int = 0
    minutes: Mapping[int, int] = field(default_factory=dict)


class SpentError(Exception):
    """There is nothing left to spend; the text says of which limit."""


class ProposalSpentError(SpentError):
    """There is nothing left for this proposal; there is for the next."""


class Budget:
    """``clock`` gives seconds since 1970, ``spent`` is of before; ``keep`` is told what is spent by now."""

    def __init__(
        self, limits: Limits, clock: Callable[[], float], spent: Spent = Spent(),
        keep: Callable[[Spent], None] = lambda spent: None,
    ) -> None:  # fmt: skip
        self._limits = limits
        self._clock = clock
        self._keep = keep
        self._total = spent.total
        self._minutes = Counter(spent.minutes)
        self._proposal = 0

    def begin(self) -> None:
        """Another proposal."""
        self._proposal = 0

    def check(self, tokens: int) -> None:
        """Whether a call of so many tokens, its answer included, may be made. Raises SpentError."""
        limits = self._limits
        _fit("--max-tokens", limits.total, self._total, tokens)
        _fit("--max-tokens-per-hour", limits.hour, self._of_the_hour(), tokens)
        _fit("--max-tokens-per-proposal", limits.proposal, self._proposal, tokens, ProposalSpentError)

    def spend(self, tokens: int) -> None:
        self._forget()
        self._total += tokens
        self._proposal += tokens
        self._minutes[self._minute()] += tokens
        self._keep(Spent(self._total, dict(self._minutes)))

    def _of_the_hour(self) -> int:
        self._forget()
        return self._minutes.total()

    def _minute(self) -> int:
        return int(self._clock()) // MINUTE_SECONDS

    def _forget(self) -> None:
        """What is older than an hour. Where the clock was put back, what it says is to come was spent now."""
        now, minutes = self._minute(), self._minutes
        self._minutes = Counter()
        for minute, tokens in minutes.items():
            if now - minute <= HOUR_MINUTES:
                self._minutes[min(minute, now)] += tokens


def estimate(*texts: str) -> int:
    """Tokens of texts that nobody has counted."""
    return sum(len(text.encode("utf-8", "replace")) for text in texts) // BYTES_A_TOKEN


def _fit(option: str, limit: int | None, spent: int, tokens: int, error: type[SpentError] = SpentError) -> None:
    """Whether ``tokens`` more are within a limit. Raises ``error``; SpentError where nothing would ever be."""
    if limit is None or spent + tokens <= limit:
        return
    if not spent:
        raise SpentError(
            f"a first call needs some {tokens} tokens, more than the {limit} of {option}:"
            f" raise it, or lift it with {option} none"
        )
    raise error(f"the {limit} tokens of {option} are spent")
