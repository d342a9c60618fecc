"""Which bounds keep their level where the gate needs them: at the margin, with skewed scores and rare failures."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from bench.gate.population import LOW, MEANS, World, draw, shifted
from bench.gate.runs import MARGIN, POLICY

from subterra_api.v1alpha1.scores import Discordant, Tally
from subterra_core.gate.bounds import difference_bounds, mean_bounds, share_bounds, z_quantile
from subterra_core.gate.verdict import ALPHA, spend
from subterra_jobs.evaluate.analysis.gate_statistics import sample

RESAMPLES = 1000
Upper = Callable[[int, int, int, int, float], float]
"""Upper bound of the difference of two failure rates from the four cells: both failed, worse, better, neither."""


def means(seed: int, sd: float, n: int, attempt: int, repeats: int) -> dict[str, float]:
    """How often each lower bound is above the margin although the true difference of a skewed criterion is the margin."""
    rng, alpha, world = np.random.default_rng(seed), spend(ALPHA, attempt), World(n=n, sd=sd)
    hits = {"t": 0, "bootstrap": 0}
    for _ in range(repeats):
        (candidate, serving), _ = draw(rng, world, (shifted(-MARGIN, 0), MEANS))
        differences = (candidate.scores - serving.scores)[:, 0].mean(axis=1)
        hits["t"] += mean_bounds(sample(differences), alpha).low >= -MARGIN
        hits["bootstrap"] += _bootstrap(rng, differences, alpha) >= -MARGIN
    return {name: count / repeats for name, count in hits.items()}


def _bootstrap(rng: np.random.Generator, values: npt.NDArray[np.float64], alpha: float) -> float:
    """Percentile bootstrap; there are few different values, so a resample is a draw of how often each comes up."""
    levels, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(len(values), counts / len(values), RESAMPLES)
    return float(np.quantile(drawn @ levels / len(values), alpha))


def shares(seed: int, rate: float, n: int, attempt: int, repeats: int) -> dict[str, float]:
    """How often each upper bound is below the margin although failures are truly more frequent by the margin."""
    rng, alpha, margin = np.random.default_rng(seed), spend(ALPHA, attempt), POLICY.failure_margin
    both = rate * (rate + margin) + LOW / 2 * math.sqrt(rate * (1 - rate) * (rate + margin) * (1 - rate - margin))
    cells = [both, rate + margin - both, rate - both, 1 - 2 * rate - margin + both]
    drawn = rng.multinomial(n, cells, repeats)
    bounds: dict[str, Upper] = {"Tango": _tango, "Newcombe": _newcombe, "Wald": _wald}
    return {name: float(np.mean([upper(*map(int, row), alpha) <= margin for row in drawn])) for name, upper in bounds.items()}


def _tango(both: int, worse: int, better: int, neither: int, alpha: float) -> float:
    return difference_bounds(Discordant(worse=worse, better=better, of=both + worse + better + neither), alpha).high


def _wald(both: int, worse: int, better: int, neither: int, alpha: float) -> float:
    n = both + worse + better + neither
    found = (worse - better) / n
    return found + z_quantile(1 - alpha) * math.sqrt(max(0.0, (worse + better) / n - found**2) / n)


def _newcombe(both: int, worse: int, better: int, neither: int, alpha: float) -> float:
    """Newcombe's tenth method (1998): Wilson's intervals of both rates, joined with their correlation."""
    n = both + worse + better + neither
    mine, theirs = share_bounds(Tally(hits=both + worse, of=n), alpha), share_bounds(Tally(hits=both + better, of=n), alpha)
    margins = (both + worse) * (better + neither) * (both + better) * (worse + neither)
    together = both * neither - worse * better
    together = max(together - n / 2, 0) if together > 0 else together
    phi = together / math.sqrt(margins) if margins else 0.0
    up, down = mine.high - mine.mean, theirs.mean - theirs.low
    return mine.mean - theirs.mean + math.sqrt(max(0.0, up * up - 2 * phi * up * down + down * down))
