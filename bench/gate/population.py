"""Scores as two judges might give them: ordinal, skewed, paired by scenario, alike across criteria."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from subterra_jobs.evaluate.analysis.gate_statistics import Arm
from subterra_jobs.evaluate.judge.results import CRITERIA

Floats = npt.NDArray[np.float64]
LEVELS = np.arange(1, 6)
MEANS = (4.50, 4.26, 4.42, 4.62, 4.12)
"""The paper's for zoom; naturalness is travel's, since 4.87 of 5 leaves no room for the larger standard deviations."""
JUDGES = 2
LOW, HIGH = 0.43, 0.73
"""Latent correlations that leave about 0.25 and 0.5 between rounded scores."""
JUDGE_SHARE = 0.85
"""Of what a judge sees before rounding, so much is the conversation's and the rest the judge's own."""


@dataclass(frozen=True)
class World:
    """``latent`` correlates the unrounded scores: both of two criteria of a conversation, and of two arms in a scenario."""

    n: int = 300
    sd: float = 0.84
    latent: float = LOW
    challenged: float = 0.5
    """Share of the scenarios that pose a challenge; Graceful Handling is compared there only."""


def shifted(shift: float, only: int | None = None) -> tuple[float, ...]:
    """The criteria's means, all or one of them moved."""
    return tuple(mean + shift if only in {None, i} else mean for i, mean in enumerate(MEANS))


@cache
def cuts(mean: float, sd: float) -> tuple[float, ...]:
    """Where a standard normal is cut so that the levels 1 to 5 have this mean and deviation, and no more structure than that."""

    def shares(x: Sequence[float]) -> Floats:
        weights = np.exp(x[0] * (LEVELS - 3) + x[1] * (LEVELS - 3) ** 2)
        return np.asarray(weights / weights.sum())

    def error(x: Sequence[float]) -> tuple[float, float]:
        p = shares(x)
        found = float(p @ LEVELS)
        return found - mean, float(np.sqrt(p @ (LEVELS - found) ** 2)) - sd

    solved = optimize.root(error, (0.5, 0.0))
    if not solved.success or max(np.abs(error(solved.x))) > 1e-6:
        raise ValueError(f"no scores from 1 to 5 have mean {mean} and standard deviation {sd}")
    return tuple(float(cut) for cut in stats.norm.ppf(np.cumsum(shares(solved.x))[:-1]))


def draw(rng: np.random.Generator, world: World, means: Sequence[tuple[float, ...]]) -> tuple[list[Arm], npt.NDArray[np.bool_]]:
    """One evaluation: an arm for each tuple of means, in the same scenarios, and which of these pose a challenge."""
    arms, criteria = len(means), len(CRITERIA)
    noise = rng.standard_normal((world.n, arms, criteria), dtype=np.float32)
    mixed = _mixer(arms, world.latent) @ (noise @ _mixer(criteria, world.latent).T)
    own = rng.standard_normal((world.n, arms, criteria, JUDGES), dtype=np.float32)
    seen = math.sqrt(JUDGE_SHARE) * mixed[..., None] + math.sqrt(1 - JUDGE_SHARE) * own
    limits = np.array([[cuts(round(mean, 4), world.sd) for mean in each] for each in means], dtype=np.float32)[..., None]
    scores = 1.0 + sum((seen > limits[:, :, level]).astype(float) for level in range(len(LEVELS) - 1))
    played = np.ones(world.n, dtype=bool)
    challenged = np.diff(np.floor(np.arange(world.n + 1) * world.challenged + 1e-9)) > 0
    return [Arm(scores[:, i], played) for i in range(arms)], challenged


@cache
def _mixer(size: int, correlation: float) -> npt.NDArray[np.float32]:
    return np.linalg.cholesky(np.full((size, size), correlation) + (1 - correlation) * np.eye(size)).astype(np.float32)


def observed(world: World) -> dict[str, float]:
    """What the scores look like once they are rounded: correlations of arms and criteria, judges' kappa, failures."""
    (a, b), _ = draw(np.random.default_rng(0), replace(world, n=20_000), (MEANS, MEANS))
    one, two = a.scores[:, :, 0], b.scores[:, :, 0]
    between = np.corrcoef(one.T)[np.triu_indices(len(CRITERIA), 1)]
    pairs = [np.corrcoef(one[:, i], two[:, i])[0, 1] for i in range(len(CRITERIA))]
    judges = [np.corrcoef(a.scores[:, i, 0], a.scores[:, i, 1])[0, 1] for i in range(len(CRITERIA))]
    return {
        "criteria": float(between.mean()), "arms": float(np.mean(pairs)), "judges": float(np.mean(judges)),
        "failures": float((a.scores[:, 0].mean(axis=1) <= 3).mean()), "sd": float(one.std(axis=0).mean()),
    }  # fmt: skip
