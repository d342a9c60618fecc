"""Four rules that others promote by, on the same scores, for comparison."""

from collections.abc import Callable

import numpy as np
from bench.gate.population import MEANS
from bench.gate.runs import Played
from scipy import stats

from subterra_jobs.evaluate.analysis.paired_scores import failures_of
from subterra_jobs.evaluate.analysis.statistics import holm
from subterra_jobs.evaluate.judge.results import CRITERIA, HIGHEST, LOWEST, TASK

PEERS_SHARE = 0.95
NAMES = ("mean went up", "not significantly worse", "95 % of a published mean", "McNemar")


def reward_up(played: Played) -> bool:
    """The mean of all scores is higher than before."""
    return bool(played.candidate.means(LOWEST).mean() > played.references["serving"].means(HIGHEST).mean())


def two_sided(played: Played) -> bool:
    """ "Not significantly worse, so ship": Wilcoxon per criterion, Holm over the five, as the paper reports."""
    differences = played.candidate.means(LOWEST) - played.references["serving"].means(HIGHEST)
    columns = {name: differences[:, i] for i, name in enumerate(CRITERIA)}
    p_values = holm({name: _wilcoxon(column) for name, column in columns.items()})
    return not any(p <= 0.05 and columns[name].mean() < 0 for name, p in p_values.items())


def _wilcoxon(differences: np.ndarray) -> float:
    return float(stats.wilcoxon(differences, method="asymptotic").pvalue) if differences.any() else 1.0


def five_percent(played: Played) -> bool:
    """The peer's gate: each mean is at least 95 % of a published one, here the true mean of the old version."""
    means = played.candidate.means(LOWEST).mean(axis=0)
    return bool((means >= PEERS_SHARE * np.array(MEANS)).all())


def mcnemar(played: Played) -> bool:
    """Failures did not become significantly more frequent, by McNemar's exact test."""
    task = CRITERIA.index(TASK)
    mine = failures_of(played.candidate.means(LOWEST)[:, task])
    theirs = failures_of(played.references["serving"].means(HIGHEST)[:, task])
    worse, better = int((mine & ~theirs).sum()), int((~mine & theirs).sum())
    return worse + better == 0 or float(stats.binom.sf(worse - 1, worse + better, 0.5)) > 0.05


Rule = Callable[[Played], bool]
RULES: dict[str, Rule] = dict(zip(NAMES, (reward_up, two_sided, five_percent, mcnemar), strict=True))
