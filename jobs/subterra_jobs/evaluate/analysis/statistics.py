"""Statistics that are also defined on degenerate input: constant scores, few pairs, ties."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from subterra_api.v1alpha1.scores import Interval, Proportion
from subterra_core.gate.bounds import proportion_bounds

RESAMPLES = 10_000
CELLS = 100_000
"""Numbers drawn at a time, as many as a processor's cache holds. What is drawn does not depend on it."""


@dataclass(frozen=True)
class Test:
    """A two-sided test. `n` counts the values in it: differing pairs, or all values."""

    __test__ = False  # for pytest, which collects classes of this name

    statistic: float
    p: float
    n: int


def mean_interval(values: Sequence[float], seed: int, resamples: int = RESAMPLES) -> Interval:
    """Mean with its percentile-bootstrap 95 % interval, of width 0 for constant values. Raises ValueError without values."""
    return _mean_interval(tuple(values), seed, resamples)


@lru_cache(maxsize=1024)  # summary, report and comparisons ask for those of the same scores
def _mean_interval(values: tuple[float, ...], seed: int, resamples: int) -> Interval:
    if not values:
        raise ValueError("the mean of no values is undefined")
    data = np.asarray(values, dtype=float)
    if data.min() == data.max():
        return Interval(mean=float(data[0]), low=float(data[0]), high=float(data[0]))
    rng = np.random.default_rng(seed)
    rows = max(1, CELLS // len(data))
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    means = np.concatenate([data[rng.integers(0, len(data), (size, len(data)))].mean(axis=1) for size in sizes])
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean=float(data.mean()), low=float(low), high=float(high))


def share_interval(hits: int, total: int) -> Interval:
    """Share with its Wilson 95 % interval, which has width even when all or none hit. Raises ValueError without trials."""
    if not 0 <= hits <= total or total == 0:
        raise ValueError(f"the share of {hits} in {total} is undefined")
    return proportion_bounds(Proportion(hits=hits, of=total), 0.025)


def wilcoxon(first: Sequence[float], second: Sequence[float]) -> Test:
    """Wilcoxon signed-rank test of paired values; equal pairs are dropped, and p is 1 when all are equal.

    With fewer than six differing pairs p cannot be below 0.05, whatever the values are.
    """
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    differences = differences[differences != 0]
    if not len(differences):
        return Test(0.0, 1.0, 0)
    found = stats.wilcoxon(differences, method="auto")
    return Test(float(found.statistic), float(found.pvalue), len(differences))


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> Test:
    """Mann-Whitney U test of unpaired values, corrected for ties; p is 1 when all values are equal or a side is empty."""
    n = len(first) + len(second)
    if not first or not second or len({*first, *second}) == 1:
        return Test(len(first) * len(second) / 2, 1.0, n)
    found = stats.mannwhitneyu(first, second, alternative="two-sided", method="auto")
    return Test(float(found.statistic), float(found.pvalue), n)


def cohens_d(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Difference of means in pooled standard deviations; 0 for equal means, `None` where undefined."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if len(a) < 2 or len(b) < 2:
        return None
    difference = float(a.mean() - b.mean())
    pooled = np.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2))
    if pooled == 0:
        return 0.0 if difference == 0 else None
    return difference / float(pooled)


def cohens_dz(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Mean difference of pairs in standard deviations of the differences; 0 for equal pairs, `None` where undefined."""
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    if not differences.any():
        return 0.0 if len(differences) else None
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return float(differences.mean()) / spread if spread else None


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted for multiple testing (Holm-Bonferroni), by name."""
    adjusted: dict[str, float] = {}
    floor = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = floor
    return {name: adjusted[name] for name in p_values}
