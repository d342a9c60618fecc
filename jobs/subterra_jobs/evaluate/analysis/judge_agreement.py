"""Agreement between judges and repeatability of one judge."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from subterra_api.v1alpha1.scores import Interval, JudgeReliability
from subterra_jobs.evaluate.analysis.statistics import CELLS, RESAMPLES
from subterra_jobs.evaluate.judge.results import CRITERIA, GRACEFUL, ArmResults, Repeat, Result

Floats = npt.NDArray[np.float64]
MIN_PAIRS = 150
"""Pairs of scores from which the agreement of two judges is judged: those of 30 conversations."""


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


def judge_reliability(arms: ArmResults, repeats: Sequence[Repeat]) -> JudgeReliability | None:
    """Agreement of two judges over all criteria, and how far each agrees with itself; `None` where rules judge."""
    results = [result for of_arm in arms.values() for result in of_arm if result.conversation.error is None]
    pairs = [pair for result in results for pair in _score_pairs(result)]
    variances = [repeat_variance(_repeated(repeats, judge)) for judge in sorted({repeat.judge for repeat in repeats})]
    if not pairs and not variances:
        return None
    repeat_sd = tuple(round(variance**0.5, 4) for variance in variances if variance is not None)
    if len(pairs) < MIN_PAIRS:
        return JudgeReliability(repeat_sd=repeat_sd)
    first, second = ([pair[judge] for pair in pairs] for judge in (0, 1))
    disagreement = float(np.sqrt(np.mean((np.asarray(first) - np.asarray(second)) ** 2)))
    kappa = round(weighted_kappa(first, second), 4)
    return JudgeReliability(kappa=kappa, disagreement=round(disagreement, 4), repeat_sd=repeat_sd)


def _score_pairs(result: Result) -> Iterator[tuple[float, float]]:
    """Both judges' scores of each criterion that applies."""
    scored = [each for each in result.judgements if each is not None]
    if len(scored) == 2:
        for name in CRITERIA:
            if name != GRACEFUL or result.challenged:
                yield float(scored[0].scores[name]), float(scored[1].scores[name])


def _repeated(repeats: Sequence[Repeat], judge: int) -> list[tuple[float, float]]:
    """Both scores of everything that one judge scored twice."""
    own = [repeat for repeat in repeats if repeat.judge == judge]
    return [(float(each.first.scores[name]), float(each.second.scores[name])) for each in own for name in CRITERIA]


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
