"""Agreement between judges and repeatability of one judge."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from subterra_api.v1alpha1.scores import Interval
from subterra_jobs.evaluate.analysis.statistics import CELLS, RESAMPLES

Floats = npt.NDArray[np.float64]


def weighted_kappa(first: Sequence[float], second: Sequence[float]) -> float:
    """Cohen's kappa of two judges with quadratic weights: 1 for equal scores, 0 for chance.

    Constant equal scores agree fully. Raises ValueError without scores, or when the judges scored different conversations.
    """
    return float(_kappas(*_both(first, second)))


def kappa_interval(first: Sequence[float], second: Sequence[float], rng: np.random.Generator) -> Interval:
    """Weighted kappa with its 95 % interval by percentile bootstrap over conversations, keeping the judges' scores paired."""
    a, b = _both(first, second)
    sizes = [len(part) for part in np.array_split(np.arange(RESAMPLES), max(1, RESAMPLES * len(a) // CELLS))]
    drawn = (rng.integers(0, len(a), (size, len(a))) for size in sizes)
    low, high = np.percentile(np.concatenate([_kappas(a[rows], b[rows]) for rows in drawn]), [2.5, 97.5])
    return Interval(mean=float(_kappas(a, b)), low=float(low), high=float(high))


def repeat_variance(plays: Sequence[Sequence[float]]) -> float | None:
    """Pooled variance of a judge's scores for the same conversation; `None` when no conversation was scored twice."""
    repeated = [np.asarray(scores, dtype=float) for scores in plays if len(scores) > 1]
    freedom = sum(len(scores) - 1 for scores in repeated)
    if not freedom:
        return None
    return float(sum(((scores - scores.mean()) ** 2).sum() for scores in repeated) / freedom)


def _both(first: Sequence[float], second: Sequence[float]) -> tuple[Floats, Floats]:
    if not first or len(first) != len(second):
        raise ValueError(f"agreement needs both judges' scores of the same conversations, not {len(first)} and {len(second)}")
    return np.asarray(first, dtype=float), np.asarray(second, dtype=float)


def _kappas(a: Floats, b: Floats) -> Floats:
    """Weighted kappa along the last axis: one minus the mean squared difference over its expectation by chance."""
    found = ((a - b) ** 2).mean(axis=-1)
    chance = a.var(axis=-1) + b.var(axis=-1) + (a.mean(axis=-1) - b.mean(axis=-1)) ** 2
    return np.where(chance == 0, 1.0, 1 - found / np.where(chance == 0, 1.0, chance))
