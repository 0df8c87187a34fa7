"""The keyless proposer: searches the tunables that the base's asset declares, from what the swarm has tried.

With few trials it steps from the base: one to three tunables, numbers by a share of their range. Then it
makes a pool of such steps, of draws by Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) and
of the base with parts of those, and takes the point of the pool whose loss, drawn from a model of the trials
(``agent.surrogate``), is lowest. On synthetic functions the model gained a third more in 60 experiments than
the estimator alone; in longer nights the estimator's draws pay. tests/bench/local_search.py measures it.

The estimator is Optuna's TPESampler, with its constant liar for what is being run (https://optuna.readthedocs.io). Such
a search over a training script's own constants is a strong baseline for language models (Ferreira et al. 2026,
arXiv:2603.24647).
"""

import hashlib
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator

import trio

from agent.domains import Choice, Domain, Int, Log
from agent.evidence import Evidence, evidence
from agent.proposer import Context, Edit
from agent.space import Point, Space, changes, describe, key
from agent.tunables import read_tunables, write_tunables

#: Steps in the pool; more found no better points.
STEPS = 300
#: Draws of the estimator, each some ten milliseconds.
DRAWS = 6
#: Parts of such a draw that are put on the base.
PARTS = 6
#: Tunables moved at once: without a model few, so that an effect shows; with one, some more.
FIRST_MOVES = 3
MEAN_FURTHER_MOVES = 2.0
#: How far a number moves, in unit coordinates.
SPREADS = (0.15, 0.05)
#: A space up to this size is gone through to its end.
MAX_ENUMERATED = 4096
#: What was proposed lately is soon in the ledger, and then ``Context.taken`` knows it.
MAX_REMEMBERED = 1000
#: How many of the latest proposals may still be on their way.
MAX_PENDING = 4


class LocalSearch:
    """Searches in a worker thread. A cancelled search is waited for: it looks whether it is before each
    costly part, and ends there."""

    name = "local"

    def __init__(self) -> None:
        #: hash of the asset -> its point
        self._proposed: OrderedDict[bytes, Point] = OrderedDict()

    async def propose(self, context: Context) -> Edit | None:
        """None where the asset declares no tunables or all points near have been tried."""
        found = await trio.to_thread.run_sync(self._search, context)
        if found is None:
            return None
        edit, point = found
        self._proposed[_digest(edit.asset)] = point
        while len(self._proposed) > MAX_REMEMBERED:
            self._proposed.popitem(last=False)
        return edit

    def _search(self, context: Context) -> tuple[Edit, Point] | None:
        space = Space(read_tunables(context.asset, context.asset_name))
        if not space.domains:
            return None
        pending = list(self._proposed.values())[-MAX_PENDING:]
        known = evidence(space, context, pending)
        for point in ideas(space, known, random.Random(context.seed), trio.from_thread.check_cancelled):
            if key(point) in known.running or not changes(space.base, point):
                continue
            trio.from_thread.check_cancelled()
            asset = write_tunables(context.asset, context.asset_name, point)
            if _digest(asset) in self._proposed or trio.from_thread.run_sync(context.taken, asset):
                continue
            return Edit(asset, describe(space.base, point), reason(known)), point
        return None


def reason(known: Evidence) -> str:
    if not known.enough:
        return "a step from the base, to see which tunables matter"
    return f"the best draw from a model of {known.trials} trials"


def ideas(
    space: Space, known: Evidence, rng: random.Random, pause: Callable[[], None] = lambda: None
) -> Iterator[Point]:
    """Points worth trying, most promising first; in a small space in the end all of them.

    ``pause`` is called before each costly part.
    """
    pause()
    if not known.enough:
        yield from (first_step(space, rng) for _ in range(STEPS))
    else:
        yield from ranked(space, known, rng, pause)
    if space.size <= MAX_ENUMERATED:
        points = list(space.points())
        rng.shuffle(points)
        yield from points


def ranked(space: Space, known: Evidence, rng: random.Random, pause: Callable[[], None]) -> Iterator[Point]:
    from agent.surrogate import Surrogate  # numpy is loaded when there is something to compute

    names = list(space.domains)
    pool = [far_step(space, rng) for _ in range(STEPS)]
    for drawn in estimator_draws(space, known, rng, pause):
        parts = rng.sample(names, rng.randint(1, min(PARTS, len(names))))
        pool += [drawn, space.settle({**space.base, **{name: drawn[name] for name in parts}})]
    pause()
    scores = Surrogate(space, known.points, known.losses, known.level).draw(pool, rng.getrandbits(32))
    yield from (pool[place] for place in scores.argsort(kind="stable"))


def first_step(space: Space, rng: random.Random) -> Point:
    names = list(space.domains)
    moved = rng.sample(names, min(len(names), rng.randint(1, FIRST_MOVES)))
    return space.step(space.base, moved, SPREADS[0], rng)


def far_step(space: Space, rng: random.Random) -> Point:
    names = list(space.domains)
    count = 1 + int(rng.expovariate(1.0 / MEAN_FURTHER_MOVES))
    return space.step(space.base, rng.sample(names, min(len(names), count)), rng.choice(SPREADS), rng)


def estimator_draws(
    space: Space, known: Evidence, rng: random.Random, pause: Callable[[], None]
) -> Iterator[Point]:
    """Draws of Optuna's multivariate tree-structured Parzen estimator."""
    import optuna  # a third of a second, and no other part of a node needs it

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {name: distribution(domain) for name, domain in space.domains.items()}
    sampler = optuna.samplers.TPESampler(
        multivariate=True, constant_liar=True, n_startup_trials=1, seed=rng.getrandbits(32)
    )
    study = optuna.create_study(sampler=sampler)
    study.add_trials(
        [
            optuna.trial.create_trial(params=point, distributions=distributions, value=loss)
            for point, loss in zip(known.points, known.losses, strict=True)
        ]
    )
    for _ in range(DRAWS):
        pause()
        yield space.tidy(study.ask(distributions).params)


def distribution(domain: Domain) -> object:
    """A domain in Optuna's words."""
    from optuna import distributions

    if isinstance(domain, Choice):
        return distributions.CategoricalDistribution(domain.options)
    if isinstance(domain, Int):
        return distributions.IntDistribution(domain.low, domain.high, log=domain.log)
    return distributions.FloatDistribution(domain.low, domain.high, log=isinstance(domain, Log))


def _digest(asset: bytes) -> bytes:
    return hashlib.sha256(asset).digest()
