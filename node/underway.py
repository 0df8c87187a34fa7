"""What the lanes of a node are at: which experiments run, and which steps may yet lead to one."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import trio

from node.snapshot import Current
from protocol.statements import Scalar

#: A run that should have ended, and is being examined, is expected to after this long.
OVERDUE_SECONDS = 1.0


class Underway:
    """``busy`` commits are being run or carried over by some lane; ``running`` are the experiments, by commit, with
    their tunables; ``steps`` counts the lanes that run one or are on the way to it. ``on_step`` hears when one is not
    any more: if nothing came of it, nobody else tells.
    """

    def __init__(self, budget_seconds: float, on_step: Callable[[], None] = lambda: None) -> None:
        self._budget = budget_seconds
        self._on_step = on_step
        self.busy: Counter[str] = Counter()
        self.running: dict[str, tuple[Current, Mapping[str, Scalar]]] = {}
        self.steps = 0
        self._ends: dict[str, float] = {}

    @contextmanager
    def step(self, commit: str = "") -> Iterator[None]:
        """A lane is at what may lead to an experiment; meanwhile no other takes up ``commit``."""
        self.steps += 1
        try:
            with self.engaged(commit):
                yield
        finally:
            self.steps -= 1
            self._on_step()

    @contextmanager
    def engaged(self, commit: str) -> Iterator[None]:
        """Meanwhile no other lane takes it up."""
        self.busy[commit] += 1
        try:
            yield
        finally:
            self.busy -= Counter([commit])

    @contextmanager
    def experiment(self, commit: str) -> Iterator[None]:
        """It begins and ends; one commit runs once at a time."""
        self._ends[commit] = trio.current_time() + self._budget
        try:
            yield
        finally:
            self.running.pop(commit, None)
            del self._ends[commit]

    def free_in(self, lanes: int, resting: int) -> float:
        """Seconds until more than so many lanes are expected to be without an experiment, 0 if they are; ``resting``
        ones have nothing to do.
        """
        now = trio.current_time()
        left = [0.0] * resting + sorted(max(OVERDUE_SECONDS, end - now) for end in self._ends.values())
        return left[lanes] if lanes < len(left) else self._budget  # one that neither rests nor runs is about to run
