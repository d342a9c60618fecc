"""Two other decision rules on the same scores, for comparison."""

from collections.abc import Sequence

import numpy as np
from bench.gate.population import MEANS, World
from bench.gate.runs import Played, passed, play
from scipy import stats

from subterra_jobs.evaluate.analysis.statistics import holm
from subterra_jobs.evaluate.judge.results import CRITERIA

PEERS_SHARE = 0.95


def two_sided(played: Played) -> bool:
    """ "Not significantly worse, so ship": Wilcoxon per criterion, Holm over the five, as the paper reports."""
    differences = (played.candidate.scores - played.references["serving"].scores).mean(axis=2)
    columns = {name: differences[:, i] for i, name in enumerate(CRITERIA)}
    p_values = holm({name: _wilcoxon(column) for name, column in columns.items()})
    return not any(p <= 0.05 and columns[name].mean() < 0 for name, p in p_values.items())


def _wilcoxon(differences: np.ndarray) -> float:
    return float(stats.wilcoxon(differences, method="asymptotic").pvalue) if differences.any() else 1.0


def five_percent(played: Played) -> bool:
    """The peer's gate: each mean is at least 95 % of a published one, here the true mean of the old version."""
    means = played.candidate.scores.mean(axis=(0, 2))
    return bool((means >= PEERS_SHARE * np.array(MEANS)).all())


def shipped(seed: int, world: World, candidate: Sequence[float], repeats: int) -> dict[str, float]:
    """Rate at which each rule ships the candidate."""
    rng = np.random.default_rng(seed)
    played = [play(rng, world, candidate, serving=MEANS) for _ in range(repeats)]
    return {
        "gate": sum(passed(one.scores()) for one in played) / repeats,
        "two-sided": sum(two_sided(one) for one in played) / repeats,
        "five percent": sum(five_percent(one) for one in played) / repeats,
    }
