"""Simulated scores of two judges: ordinal, skewed, paired by scenario, correlated across criteria."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from subterra_jobs.evaluate.analysis.paired_scores import ArmScores
from subterra_jobs.evaluate.judge.results import CRITERIA

Floats = npt.NDArray[np.float64]
LEVELS = np.arange(1, 6)
MEANS = (4.50, 4.26, 4.42, 4.62, 4.12)
"""The paper's means for zoom; naturalness is that of travel, because 4.87 of 5 leaves no room for the larger deviations."""
JUDGES = 2
LOW, HIGH = 0.43, 0.73
"""Latent correlations that give about 0.25 and 0.5 between rounded scores."""
JUDGE_SHARE = 0.85
"""Share of a score's variance, before rounding, that comes from the conversation; the rest comes from the judge."""


@dataclass(frozen=True)
class World:
    """Parameters of a simulated evaluation. ``latent``: correlation of unrounded scores between criteria and between arms."""

    n: int = 300
    sd: float = 0.84
    latent: float = LOW
    challenged: float = 0.5
    """Share of scenarios with a challenge; Graceful Handling is compared only there."""


def shifted(shift: float, only: int | None = None) -> tuple[float, ...]:
    """`MEANS` shifted on all criteria, or on criterion ``only``."""
    return tuple(mean + shift if only in {None, i} else mean for i, mean in enumerate(MEANS))


@cache
def cuts(mean: float, sd: float) -> tuple[float, ...]:
    """Thresholds on a standard normal that give the levels 1 to 5 this mean and deviation at maximum entropy."""

    def shares(x: Sequence[float]) -> Floats:
        weights = np.exp(x[0] * (LEVELS - 3) + x[1] * (LEVELS - 3) ** 2)
        return np.asarray(weights / weights.sum())

    def error(x: Sequence[float]) -> tuple[float, float]:
        p = shares(x)
        average = float(p @ LEVELS)
        return average - mean, float(np.sqrt(p @ (LEVELS - average) ** 2)) - sd

    solved = optimize.root(error, (0.5, 0.0))
    if not solved.success or max(np.abs(error(solved.x))) > 1e-6:
        raise ValueError(f"no scores from 1 to 5 have mean {mean} and standard deviation {sd}")
    return tuple(float(cut) for cut in stats.norm.ppf(np.cumsum(shares(solved.x))[:-1]))


def draw(
    rng: np.random.Generator, world: World, means: Sequence[tuple[float, ...]]
) -> tuple[list[ArmScores], npt.NDArray[np.bool_]]:
    """One evaluation: an arm for each tuple of means on the same scenarios, and a mask of the scenarios with a challenge."""
    return draw_cut(rng, world, np.array([[cuts(round(mean, 4), world.sd) for mean in arm_means] for arm_means in means]))


def draw_cut(rng: np.random.Generator, world: World, thresholds: Floats) -> tuple[list[ArmScores], npt.NDArray[np.bool_]]:
    """The same for the four `thresholds[arm, criterion]` on a standard normal that part the levels."""
    arms, criteria = len(thresholds), len(CRITERIA)
    noise = rng.standard_normal((world.n, arms, criteria), dtype=np.float32)
    mixed = _mixer(arms, world.latent) @ (noise @ _mixer(criteria, world.latent).T)
    own = rng.standard_normal((world.n, arms, criteria, JUDGES), dtype=np.float32)
    perceived = math.sqrt(JUDGE_SHARE) * mixed[..., None] + math.sqrt(1 - JUDGE_SHARE) * own
    limits = thresholds.astype(np.float32)[..., None]
    scores = 1.0 + sum((perceived > limits[:, :, level]).astype(float) for level in range(len(LEVELS) - 1))
    played = np.ones(world.n, dtype=bool)
    challenged = np.diff(np.floor(np.arange(world.n + 1) * world.challenged + 1e-9)) > 0
    return [ArmScores(scores[:, i], played) for i in range(arms)], challenged


@cache
def _mixer(size: int, correlation: float) -> npt.NDArray[np.float32]:
    return np.linalg.cholesky(np.full((size, size), correlation) + (1 - correlation) * np.eye(size)).astype(np.float32)


def observed(world: World) -> dict[str, float]:
    """Properties of the rounded scores: correlations of criteria, arms and judges, failure rate, deviation."""
    (a, b), _ = draw(np.random.default_rng(0), replace(world, n=20_000), (MEANS, MEANS))
    one, two = a.scores[:, :, 0], b.scores[:, :, 0]
    between = np.corrcoef(one.T)[np.triu_indices(len(CRITERIA), 1)]
    pairs = [np.corrcoef(one[:, i], two[:, i])[0, 1] for i in range(len(CRITERIA))]
    judges = [np.corrcoef(a.scores[:, i, 0], a.scores[:, i, 1])[0, 1] for i in range(len(CRITERIA))]
    return {
        "criteria": float(between.mean()),
        "arms": float(np.mean(pairs)),
        "judges": float(np.mean(judges)),
        "failures": float((a.scores[:, 0].mean(axis=1) <= 3).mean()),
        "sd": float(one.std(axis=0).mean()),
    }
