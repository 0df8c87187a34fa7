"""The standing of every candidate in one tier, kept up to date.

Records mark candidates as changed; a question first settles them, parents before children, and goes on to a
candidate's children only where what it passes on (``Foundation``) has changed. So a burst of records is
settled once, and a record that changes nothing for others costs nothing for them.
"""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping

from protocol.noise import NO_SPREAD, Noise, Spread, yardstick
from protocol.rules import Rules
from protocol.standing import (
    Average,
    Book,
    Candidate,
    Foundation,
    Run,
    Standing,
    Tally,
    judge,
    judge_genesis,
    steady,
    tally,
    tally_confirmations,
)
from protocol.statements import Origin

_EMPTY = Book()


def _or_last(value: float | None) -> float:
    """Genesis has its place before anybody measured it: the last one."""
    return math.inf if value is None else value


def _spread(average: Average | None) -> Spread:
    return NO_SPREAD if average is None else average.spread


class _Ranking:
    """Commits in order of a value, best first, ties by commit id."""

    __slots__ = ("_keys", "_order")

    def __init__(self) -> None:
        self._order: list[tuple[float, str]] = []
        self._keys: dict[str, tuple[float, str]] = {}

    def put(self, commit: str, value: float | None) -> None:
        """Rank ``commit`` by ``value``; None takes it out."""
        old = self._keys.get(commit)
        new = None if value is None else (value, commit)
        if old == new:
            return
        if old is not None:
            del self._order[bisect_left(self._order, old)]
            del self._keys[commit]
        if new is not None:
            insort(self._order, new)
            self._keys[commit] = new

    def commits(self) -> list[str]:
        return [commit for _, commit in self._order]

    @property
    def first(self) -> str | None:
        return self._order[0][1] if self._order else None


class Tier:
    """One tier's books, noise and standings.

    ``candidate``, ``children``, ``depth`` and ``verdict`` look into the ledger, which all tiers share; a
    commit's depth is known only when all its ancestors are.
    """

    def __init__(
        self,
        name: str,
        rules: Rules,
        *,
        candidate: Callable[[str], Candidate],
        children: Callable[[str], Iterable[str]],
        depth: Callable[[str], int],
        verdict: Callable[[str], bool | None],
    ) -> None:
        self.name = name
        self._rules = rules
        self._candidate, self._children, self._depth, self._verdict = candidate, children, depth, verdict
        self._noise = Noise(rules.noise)
        self._yard = yardstick(self._noise.sigma)
        self._books: dict[str, Book] = {}
        #: by author: candidates that others reported too
        self._shared: dict[bytes, dict[str, None]] = {}
        self._states: dict[str, tuple[Standing, Foundation]] = {}
        self._tallies: dict[str, tuple[Tally, Tally]] = {}
        #: candidates that σ can move: several authors, or confirmations
        self._contested: set[str] = set()
        self._changed: set[str] = set()
        self._accepted, self._proven, self._promising = _Ranking(), _Ranking(), _Ranking()
        self._disputed: set[str] = set()

    # what comes in

    def add(self, run: Run, known: bool) -> None:
        """Enter a run; ``known`` says whether all ancestors of its commit are held."""
        commit = run.result.commit
        if commit not in self._books:
            self._books[commit] = Book()
            if known:
                self.appear(commit)
        book = self._books[commit]
        before = book.averages.get(run.author)
        if not book.add(run):
            return
        self._noise.replace(run.author, _spread(before), _spread(book.averages.get(run.author)))
        if len(book.averages) > 1:
            for author in book.averages:
                self._shared.setdefault(author, {})[commit] = None
        if len(book.averages) > 1 or book.confirmations:
            self._contested.add(commit)
        self.touch(commit)

    def appear(self, commit: str) -> None:
        """All ancestors of ``commit`` are held now: if it has runs here, it and they have a standing from now
        on.
        """
        if commit not in self._books:
            return
        here: str | None = commit
        while here is not None and here not in self._states:
            self._states[here] = self._unsettled(here)
            self._changed.add(here)
            here = self._candidate(here).parent

    def touch(self, commit: str) -> None:
        """Something that bears on ``commit`` changed: its runs, its lines or the verdict on it."""
        if commit in self._states:
            self._changed.add(commit)

    # what may be asked

    @property
    def sigma(self) -> float:
        return self._noise.sigma

    @property
    def yard(self) -> float:
        """σ as the decisions use it: rounded up to a coarse grid."""
        self._settle()
        return self._yard

    def averages(self, commit: str) -> Mapping[bytes, Average]:
        return self._books.get(commit, _EMPTY).averages

    def shared(self, author: bytes) -> Iterable[str]:
        """The commits of which ``author`` and another reported runs."""
        return self._shared.get(author, {}).keys()

    def next_index(self, commit: str, author: bytes, origin: Origin) -> int:
        return self._books.get(commit, _EMPTY).next_index(author, origin)

    def latest_ms(self, commit: str) -> int:
        return self._books.get(commit, _EMPTY).latest_ms

    def standing(self, commit: str) -> Standing | None:
        self._settle()
        state = self._states.get(commit)
        return None if state is None else state[0]

    def foundation(self, commit: str) -> Foundation | None:
        self._settle()
        state = self._states.get(commit)
        return None if state is None else state[1]

    def tally(self, commit: str) -> Tally:
        self._settle()
        held = self._tallies.get(commit)
        return tally(self.averages(commit), self._yard) if held is None else held[0]

    def accepted(self) -> list[str]:
        self._settle()
        return self._accepted.commits()

    def proven(self) -> list[str]:
        self._settle()
        return self._proven.commits()

    def promising(self) -> list[str]:
        self._settle()
        return self._promising.commits()

    def disputed(self) -> list[str]:
        self._settle()
        return sorted(self._disputed)

    def incumbent(self) -> Standing | None:
        self._settle()
        return self._first(self._accepted)

    def proven_best(self) -> Standing | None:
        self._settle()
        return self._first(self._proven)

    # how it is settled

    def _first(self, ranking: _Ranking) -> Standing | None:
        return None if ranking.first is None else self._states[ranking.first][0]

    def _unsettled(self, commit: str) -> tuple[Standing, Foundation]:
        return judge_genesis(commit, self.name, Tally(), Tally())

    def _settle(self) -> None:
        yard = yardstick(self._noise.sigma) if self._changed else self._yard
        if yard != self._yard:
            self._yard = yard
            self._changed.update(commit for commit in self._contested if not self._steady(commit))
        if not self._changed:
            return
        queue = [(self._depth(commit), commit) for commit in self._changed]
        heapq.heapify(queue)
        while queue:
            _, commit = heapq.heappop(queue)
            if commit not in self._changed:
                continue
            self._changed.discard(commit)
            for child in self._resettle(commit):
                self._changed.add(child)
                heapq.heappush(queue, (self._depth(child), child))

    def _steady(self, commit: str) -> bool:
        """Whether the new yardstick leaves a candidate as it is; one without a standing has nothing to
        lose.
        """
        if commit not in self._tallies:
            return True
        parent = self._candidate(commit).parent
        below = None if parent is None else self._states[parent][1]
        return steady(self._states[commit][0], *self._tallies[commit], below, self._yard)

    def _resettle(self, commit: str) -> list[str]:
        """Judge one candidate anew; the children to look at next."""
        before = self._states[commit]
        book = self._books.get(commit, _EMPTY)
        runs = tally(book.averages, self._yard)
        confirmed = tally_confirmations(commit, book.confirmations, self._yard)
        self._tallies[commit] = runs, confirmed
        candidate = self._candidate(commit)
        if candidate.parent is None:
            after = judge_genesis(commit, self.name, runs, confirmed)
        else:
            below = self._states[candidate.parent][1]
            verdict = self._verdict(commit)
            after = judge(candidate, self.name, runs, confirmed, below, verdict, self._rules, self._yard)
        self._states[commit] = after
        self._rank(after[0])
        if after[1] == before[1]:
            return []
        return [
            child for child in self._children(commit) if child in self._states and child not in self._changed
        ]

    def _rank(self, standing: Standing) -> None:
        value, commit = standing.value, standing.commit
        self._accepted.put(commit, _or_last(value) if standing.accepted else None)
        self._proven.put(commit, _or_last(standing.confirmed) if standing.proven else None)
        waiting = standing.promising and not standing.accepted and not standing.vetoed
        self._promising.put(commit, value if waiting else None)
        if standing.disputed and not standing.vetoed:
            self._disputed.add(commit)
        else:
            self._disputed.discard(commit)
