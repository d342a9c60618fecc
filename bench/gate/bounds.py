"""Coverage of confidence bounds where the gate needs them: at the margin, with skewed scores and rare failures."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from bench.gate.population import LOW, MEANS, World, draw, shifted
from bench.gate.runs import MARGIN, POLICY

from subterra_api.v1alpha1.scores import DiscordantPairs, Proportion
from subterra_core.gate.attempts import ALPHA, alpha_for_attempt
from subterra_core.gate.bounds import difference_bounds, mean_bounds, proportion_bounds, z_quantile
from subterra_jobs.evaluate.analysis.paired_scores import sample_stats

RESAMPLES = 1000
Upper = Callable[[int, int, int, int, float], float]
"""Upper bound of the difference of two failure rates, from four counts and a level: both failed, worse, better, neither."""


def means(seed: int, sd: float, n: int, attempt: int, repeats: int) -> dict[str, float]:
    """Rate at which each lower bound is above the margin when the true difference of a skewed criterion is the margin."""
    rng, alpha, world = np.random.default_rng(seed), alpha_for_attempt(ALPHA, attempt), World(n=n, sd=sd)
    hits = {"t": 0, "bootstrap": 0}
    for _ in range(repeats):
        (candidate, serving), _ = draw(rng, world, (shifted(-MARGIN, 0), MEANS))
        differences = (candidate.scores - serving.scores)[:, 0].mean(axis=1)
        hits["t"] += mean_bounds(sample_stats(differences), alpha).low >= -MARGIN
        hits["bootstrap"] += _bootstrap(rng, differences, alpha) >= -MARGIN
    return {name: count / repeats for name, count in hits.items()}


def _bootstrap(rng: np.random.Generator, values: npt.NDArray[np.float64], alpha: float) -> float:
    """Lower percentile bootstrap bound; few values are distinct, so a resample is a multinomial draw of their counts."""
    levels, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(len(values), counts / len(values), RESAMPLES)
    return float(np.quantile(drawn @ levels / len(values), alpha))


def shares(seed: int, rate: float, n: int, attempt: int, repeats: int) -> dict[str, float]:
    """Rate at which each upper bound is below the margin when failures are truly more frequent by the margin."""
    rng, alpha, margin = np.random.default_rng(seed), alpha_for_attempt(ALPHA, attempt), POLICY.failure_margin
    both = rate * (rate + margin) + LOW / 2 * math.sqrt(rate * (1 - rate) * (rate + margin) * (1 - rate - margin))
    cells = [both, rate + margin - both, rate - both, 1 - 2 * rate - margin + both]
    drawn = rng.multinomial(n, cells, repeats)
    bounds: dict[str, Upper] = {"Tango": _tango, "Newcombe": _newcombe, "Wald": _wald}
    return {name: float(np.mean([upper(*map(int, row), alpha) <= margin for row in drawn])) for name, upper in bounds.items()}


def _tango(both: int, worse: int, better: int, neither: int, alpha: float) -> float:
    return difference_bounds(DiscordantPairs(worse=worse, better=better, of=both + worse + better + neither), alpha).high


def _wald(both: int, worse: int, better: int, neither: int, alpha: float) -> float:
    n = both + worse + better + neither
    difference = (worse - better) / n
    return difference + z_quantile(1 - alpha) * math.sqrt(max(0.0, (worse + better) / n - difference**2) / n)


def _newcombe(both: int, worse: int, better: int, neither: int, alpha: float) -> float:
    """Newcombe's method 10 (1998): Wilson intervals of both rates, combined with their correlation."""
    n = both + worse + better + neither
    candidate, reference = (
        proportion_bounds(Proportion(hits=both + worse, of=n), alpha),
        proportion_bounds(Proportion(hits=both + better, of=n), alpha),
    )
    margins = (both + worse) * (better + neither) * (both + better) * (worse + neither)
    association = both * neither - worse * better
    association = max(association - n / 2, 0) if association > 0 else association
    phi = association / math.sqrt(margins) if margins else 0.0
    up, down = candidate.high - candidate.mean, reference.mean - reference.low
    return candidate.mean - reference.mean + math.sqrt(max(0.0, up * up - 2 * phi * up * down + down * down))
