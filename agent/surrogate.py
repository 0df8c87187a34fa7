"""A model of the loss over a space of tunables: a Gaussian process in plain numpy.

The kernel is a share of main effects, one for each tunable, and a share of what they do together (additive
Gaussian processes: Duvenaud, Nickisch, Rasmussen 2011): with a few dozen trials in twenty tunables little
more than main effects can be learnt, and a product kernel alone learns nothing. Its few settings are those of
a small grid that make the trials most likely (Rasmussen and Williams 2006, equation 2.30, with the amplitude
in closed form).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.domains import Choice
from agent.space import Point, Space, unit

Array = NDArray[np.float64]

#: Reach of a number's effect, in unit coordinates.
REACH = (0.2, 0.4, 0.8)
#: Share of main effects.
MAIN = (0.3, 0.7, 1.0)
#: Variance of a run's noise over that of the losses.
NOISE = (0.01, 0.05, 0.2)
#: Reach of joint effects, over that of main effects: points differ in many tunables at once.
JOINT = 2.0
#: Keeps the matrices regular where points repeat.
JITTER = 1e-8
TINY = 1e-12


class Fit(NamedTuple):
    """A process with given settings: Cholesky factor, factor \\ losses, and the amplitude that fits best."""

    likelihood: float
    reach: float
    main: float
    factor: Array
    solved: Array
    amplitude: float


class Surrogate:
    """Fitted to ``losses`` at ``points``; ``level`` is the base's loss."""

    def __init__(self, space: Space, points: Sequence[Point], losses: Sequence[float], level: float) -> None:
        self._space = space
        self._places = self._coordinates(points)
        scores = squash(np.asarray(losses, dtype=np.float64), level)
        self._mean = float(scores.mean())
        scores -= self._mean
        self._best = max(self._fits(scores), key=lambda fit: fit.likelihood)

    def draw(self, points: Sequence[Point], seed: int) -> Array:
        """A score for each point, drawn from what the trials leave open (Thompson 1933); lower is better.

        Points are drawn apart from each other: the pool is dense enough that a joint draw finds no better.
        """
        best, places = self._best, self._coordinates(points)
        effects, joint = self._effects(self._places, places, best.reach)
        covariance = best.main * effects + (1.0 - best.main) * joint
        weights = np.linalg.solve(best.factor, covariance)
        mean = self._mean + weights.T @ best.solved
        variance = best.amplitude * (1.0 - (weights**2).sum(axis=0))
        noise = np.random.default_rng(seed).standard_normal(len(points))
        drawn: Array = mean + np.sqrt(np.maximum(variance, TINY)) * noise
        return drawn

    def _fits(self, scores: Array) -> Iterator[Fit]:
        for reach in REACH:
            effects, joint = self._effects(self._places, self._places, reach)  # all but the whole of the work
            for main, noise in itertools.product(MAIN, NOISE):
                yield fit(main * effects + (1.0 - main) * joint, scores, reach, main, noise)

    def _effects(self, ours: Array, theirs: Array, reach: float) -> tuple[Array, Array]:
        """The kernels of main and of joint effects, each of shape [ours, theirs]."""
        apart = np.abs(ours[:, None, :] - theirs[None, :, :])
        squares = np.where(self._unordered, apart > 0, (apart / reach) ** 2)
        effects: Array = np.exp(-0.5 * squares).mean(axis=-1)
        joint: Array = np.exp(-0.5 * squares.sum(axis=-1) / JOINT**2)
        return effects, joint

    @property
    def _unordered(self) -> NDArray[np.bool_]:
        return np.array([isinstance(domain, Choice) for domain in self._space.domains.values()])

    def _coordinates(self, points: Sequence[Point]) -> Array:
        """Shape [points, tunables]: unit coordinates of numbers, places of options."""
        domains = self._space.domains
        rows = [
            [
                domain.options.index(point[name]) if isinstance(domain, Choice) else unit(domain, point[name])
                for name, domain in domains.items()
            ]
            for point in points
        ]
        return np.array(rows, dtype=np.float64).reshape(len(points), len(domains))


def fit(covariance: Array, scores: Array, reach: float, main: float, noise: float) -> Fit:
    count = len(scores)
    factor: Array = np.linalg.cholesky(covariance + (noise + JITTER) * np.eye(count)).astype(np.float64)
    solved: Array = np.linalg.solve(factor, scores).astype(np.float64)
    amplitude = max(float(solved @ solved) / count, TINY)
    likelihood = -0.5 * count * math.log(amplitude) - float(np.log(np.diag(factor)).sum())
    return Fit(likelihood, reach, main, factor, solved, amplitude)


def squash(losses: Array, level: float) -> Array:
    """Losses against the base's, in units of how far the better half reaches; far worse ones as logarithms.

    How bad a bad candidate is tells little about good ones, and on a plain scale it would drown them.
    """
    unit_loss = max(float(np.median(losses) - losses.min()), TINY)
    apart = (losses - level) / unit_loss
    squashed: Array = np.where(apart > 1.0, 1.0 + np.log(np.maximum(apart, 1.0)), apart)
    return squashed
