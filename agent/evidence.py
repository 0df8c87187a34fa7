"""What is known of a space of tunables before the next point is chosen: some of the swarm's trials."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent.proposer import Context, Trial
from agent.space import Key, Point, Space, key
from protocol.statements import Scalar

#: With fewer trials than this a model of them says nothing.
ENOUGH = 4
#: The model's cost grows with the cube of this; at 200 a proposal takes some tenths of a second.
MAX_TRIALS = 200
#: So many of them are the best ones, the others the latest.
BEST = 50
#: Any number is a legal metric, and one of 1e100, a slip or a lie, would drown the others on any scale. One loss in so
#: many at either end, and one at least, is not asked how far losses reach; what lies further beyond than so many times
#: that reach is absurd (no recorded run of lm-mini is), and if better counts as so many times better: it may be a leap.
TAIL_ONE_IN = 10
ABSURD, LEAP = 30.0, 3.0
#: Claims of peers last minutes: more than this are noise.
MAX_RUNNING = 32


@dataclass(frozen=True)
class Evidence:
    """Losses at points, the base's own loss, and what is being run.

    A failed trial has the worst loss of those that were scored: the search steers away from it. A point that is being
    run has the base's (a constant liar: Ginsbourger et al. 2010): it promises nothing, and what is around it is no
    longer unknown. An absurd loss counts as no more than a leap, or as the worst of the others.
    """

    points: Sequence[Point]
    losses: Sequence[float]
    level: float
    running: frozenset[Key]
    trials: int

    @property
    def enough(self) -> bool:
        """Whether a model can be made of it."""
        return self.trials >= ENOUGH


def evidence(space: Space, context: Context, pending: Sequence[Mapping[str, Scalar]]) -> Evidence:
    """``pending`` is what this node has proposed lately and may still be running."""
    trials = choose_trials(comparable(context.trials, context.tier))
    placed = [(trial, point) for trial in trials if (point := space.place(trial.tunables)) is not None]
    scored = [trial.value for trial, _ in placed if trial.value is not None]
    known = {key(point) for _, point in placed}
    running = [attempt.tunables for attempt in context.running[:MAX_RUNNING]]
    claimed = [space.place(values) for values in [*running, *pending]]
    untold = {key(point): point for point in claimed if point is not None and key(point) not in known}
    if not scored:
        return Evidence((), (), 0.0, frozenset(untold), 0)
    best, worst = believable(scored)
    level = min(max(base_loss(placed, context.base, space.base, otherwise=best), best), worst)
    losses = [worst if trial.value is None else min(max(trial.value, best), worst) for trial, _ in placed]
    return Evidence(
        points=[*(point for _, point in placed), *untold.values()],
        losses=[*losses, *(level for _ in untold)],
        level=level,
        running=frozenset(untold),
        trials=len(placed),
    )


def believable(losses: Sequence[float]) -> tuple[float, float]:
    """The least and the most that a loss counts as."""
    different = sorted(set(losses))
    tail = max(1, len(different) // TAIL_ONE_IN) if len(different) >= ENOUGH else 0
    good, middle, bad = different[tail], different[len(different) // 2], different[-1 - tail]
    reach = middle - good
    kept = [loss for loss in different if good - ABSURD * reach <= loss <= bad + ABSURD * reach]
    leap = LEAP * reach if kept[0] > different[0] else 0.0
    return kept[0] - leap, kept[-1]


def base_loss(placed: Sequence[tuple[Trial, Point]], base: str, point: Point, *, otherwise: float) -> float:
    """The base's loss: of its own trial, else of one at the same point."""
    of_base = [trial.value for trial, _ in placed if trial.commit == base]
    beside = [trial.value for trial, place in placed if place == point]
    return next((value for value in [*of_base, *beside] if value is not None), otherwise)


def comparable(trials: Sequence[Trial], tier: str) -> list[Trial]:
    """Trials of other tiers, moved to the level of ``tier``, and then its own; each commit once.

    The shift is the median over commits that both have scored; a tier without any says nothing here. A
    failure elsewhere is left out: it may be the hardware's.
    """
    own = {trial.commit: trial for trial in trials if trial.tier == tier}
    moved: dict[str, Trial] = {}
    for other in sorted({trial.tier for trial in trials} - {tier}):
        theirs = [trial for trial in trials if trial.tier == other and trial.value is not None]
        shifts = [loss for trial in theirs if (loss := difference(own.get(trial.commit), trial)) is not None]
        if shifts:
            moved |= {trial.commit: shifted(trial, statistics.median(shifts)) for trial in theirs}
    return [trial for commit, trial in moved.items() if commit not in own] + list(own.values())


def difference(mine: Trial | None, other: Trial) -> float | None:
    if mine is None or mine.value is None or other.value is None:
        return None
    return mine.value - other.value


def shifted(trial: Trial, by: float) -> Trial:
    return trial if trial.value is None else replace(trial, value=trial.value + by)


def choose_trials(trials: Sequence[Trial]) -> list[Trial]:
    """At most ``MAX_TRIALS``: the best and the latest."""
    if len(trials) <= MAX_TRIALS:
        return list(trials)
    scored = [place for place, trial in enumerate(trials) if trial.value is not None]
    best = sorted(scored, key=lambda place: (trials[place].value, place))[:BEST]
    latest = [place for place in range(len(trials) - 1, -1, -1) if place not in set(best)]
    return [trials[place] for place in sorted([*best, *latest[: MAX_TRIALS - len(best)]])]
