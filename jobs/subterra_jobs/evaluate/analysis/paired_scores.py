"""Scores of arms as arrays: judges averaged, gaps filled, equal customers taken as one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subterra_api.v1alpha1.scores import Difference, DiscordantPairs, Proportion, SampleStats
from subterra_jobs.evaluate.judge.results import CRITERIA, FAILURE, HIGHEST, LOWEST, Result

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ArmScores:
    """Scores of one arm: `scores[scenario, criterion, judge]`, NaN where missing; `played[scenario]` if simulated."""

    scores: Floats
    played: Mask

    def means(self, default: float) -> Floats:
        """Mean of the judges who scored, `means[scenario, criterion]`; `default` where none did."""
        scored = ~np.isnan(self.scores) & self.played[:, None, None]
        counts = scored.sum(axis=2)
        totals = np.where(scored, self.scores, 0.0).sum(axis=2)
        return np.where(counts > 0, totals / np.maximum(counts, 1), default)


def arm_scores(results: Sequence[Result]) -> ArmScores:
    """Scores of one arm as an array, NaN where a judge gave none.

    A conversation that the model itself broke, for example by filling its context, counts as played and scores 1 in every arm.
    """
    scores = [
        [[np.nan if each is None else each.scores[name] for each in result.judgements] for name in CRITERIA] for result in results
    ]
    return ArmScores(np.array(scores, dtype=float), np.array([not result.conversation.lost for result in results]))


def differences(candidate: ArmScores, reference: ArmScores) -> tuple[Floats, Floats]:
    """Candidate minus reference: `[scenario, criterion]` in the mean of the judges, and `[scenario, criterion, judge]`.

    A judge who scored only one side says nothing about the difference, so that a gap costs no point and hides none. Where no judge
    scored both, a side without any score counts as the lowest for the candidate and as the highest for the reference.
    """
    both = (candidate.played & reference.played)[:, None, None]
    by_judge = np.where(both, candidate.scores - reference.scores, np.nan)
    known = ~np.isnan(by_judge)
    counts = known.sum(axis=2)
    means = np.where(known, by_judge, 0.0).sum(axis=2) / np.maximum(counts, 1)
    filled = np.where(counts > 0, means, candidate.means(LOWEST) - reference.means(HIGHEST))
    # Where nobody scored both sides, each judge is held to what the mean is.
    return filled, np.where(counts[:, :, None] > 0, by_judge, filled[:, :, None])


def failures_of(task: Floats) -> Mask:
    """Mask of conversations whose Task Success, as the mean of the judges, is a failure."""
    return np.asarray(task <= FAILURE)


def missing_share(*arms: ArmScores) -> float:
    """Share of missing judgements among those of played conversations."""
    gaps = np.concatenate([np.isnan(arm.scores[arm.played]).ravel() for arm in arms])
    return float(gaps.mean()) if len(gaps) else 0.0


def sample_stats(values: Floats, customers: Ints | None = None) -> SampleStats:
    """Sufficient statistics of a mean. Values of equal `customers` are one observation: their spread between customers counts."""
    deviations, count = _deviations(values, customers)
    sd = _sd(deviations, count, len(values))
    return SampleStats(count=count, mean=rounded(values.mean()), sd=rounded(sd))


def difference_stats(values: Floats, by_judge: Floats, customers: Ints | None = None) -> Difference:
    """Sufficient statistics of differences `values[scenario]`, and their means `by_judge[scenario, judge]`."""
    deviations, count = _deviations(values, customers)
    sd = _sd(deviations, count, len(values))
    spread = np.sqrt((deviations**2).mean())
    skew = float((deviations**3).mean() / spread**3) if spread > 0 else 0.0
    return Difference(
        count=count,
        mean=rounded(values.mean()),
        sd=rounded(sd),
        judges=tuple(rounded(np.nanmean(column)) for column in by_judge.T if not np.isnan(column).all()),
        skew=round(skew, 2),
    )


def _deviations(values: Floats, customers: Ints | None) -> tuple[Floats, int]:
    """Deviations from the mean, summed for equal customers, and the number of different ones."""
    apart = values - values.mean()
    if customers is None:
        return apart, len(values)
    _, place = np.unique(customers, return_inverse=True)
    sums: Floats = np.bincount(place, weights=apart).astype(np.float64)
    return sums, len(sums)


def _sd(deviations: Floats, count: int, of: int) -> float:
    """Standard deviation whose ratio to the root of `count` is the standard error, robust against equal customers."""
    return float(np.sqrt((deviations**2).sum() / (count - 1)) * count / of) if count > 1 else 0.0


def proportion(hits: Mask, customers: Ints | None = None) -> Proportion:
    """A share as counts of different customers."""
    count = len(hits) if customers is None else len(np.unique(customers))
    return Proportion(hits=_share(hits, count), of=count)


def discordant_pairs(mine: Mask, theirs: Mask, customers: Ints | None = None) -> DiscordantPairs:
    """Counts of different customers with whom exactly one side failed."""
    count = len(mine) if customers is None else len(np.unique(customers))
    return DiscordantPairs(worse=_share(mine & ~theirs, count), better=_share(~mine & theirs, count), of=count)


def _share(hits: Mask, count: int) -> int:
    return int(hits.sum()) if count == len(hits) else round(float(hits.mean()) * count)


def rounded(value: float) -> float:
    """`value` with four decimals, because a termination message is small."""
    return round(float(value), 4)
