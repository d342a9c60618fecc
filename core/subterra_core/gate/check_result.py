"""A measured value against its floor: the unit of which every verdict is made."""

import math
from dataclasses import dataclass

from subterra_api.v1alpha1.scores import DiscordantPairs, Interval, Proportion, SampleStats, VerdictResult
from subterra_core.gate.bounds import difference_bounds, mean_bounds, proportion_bounds, unlike_any_seen

MIN_SAMPLE = 30
"""Minimum number of values for judging a criterion or a comparison."""
LOWEST_SCORE, HIGHEST_SCORE = 1.0, 5.0


@dataclass(frozen=True)
class Check:
    """A value compared with its floor, where higher is better; `sd` and `n` describe the sample behind it."""

    name: str
    interval: Interval
    floor: float
    text: str
    sd: float
    n: int
    remedy: str | None = None
    """What makes the result clear, where it is not only more scenarios."""
    margin: float | None = None
    """The policy's margin, for a comparison; `floor` may be further away."""
    widening: float = 1.0
    """Factor between the two."""

    @property
    def result(self) -> VerdictResult:
        if self.interval.low >= self.floor:
            return "Pass"
        return "Fail" if self.interval.high < self.floor else "Inconclusive"


def mean_check(name: str, sample: SampleStats, floor: float, alpha: float, *, field: str) -> Check:
    """The candidate's own mean against a floor of the policy, its `field`."""
    bounds = mean_bounds(sample, alpha)
    low = min(bounds.low, unlike_any_seen(sample, LOWEST_SCORE, alpha))
    return Check(name, *_described_bounds(bounds, low, floor), sample.sd, sample.count, _out_of_reach(floor, HIGHEST_SCORE, field))


def _described_bounds(bounds: Interval, low: float, floor: float) -> tuple[Interval, float, str]:
    """Interval, floor, and both in words."""
    interval = Interval(mean=bounds.mean, low=low, high=bounds.high)
    return interval, floor, f"mean {bounds.mean:.2f} (interval {low:.2f} to {bounds.high:.2f}) against {floor:.2f}"


def proportion_check(name: str, proportion: Proportion, floor: float, alpha: float, *, field: str) -> Check:
    """A share of the candidate's conversations against a floor of the policy, its `field`."""
    bounds = proportion_bounds(proportion, alpha)
    text = f"{bounds.mean:.1%} (interval {bounds.low:.1%} to {bounds.high:.1%}) against a floor of {floor:.1%}"
    sd = math.sqrt(bounds.mean * (1 - bounds.mean))
    return Check(name, bounds, floor, text, sd, proportion.of, _out_of_reach(floor, 1.0, field))


def _out_of_reach(floor: float, best: float, field: str) -> str | None:
    """The fix for a floor at the end of the scale: however many conversations are faultless, the next one may not be."""
    return f"no number of scenarios can show that; change gate.{field}" if floor >= best else None


def difference_check(name: str, sample: SampleStats, skew: float | None, margin: float, widening: float, alpha: float) -> Check:
    """A mean paired difference, candidate minus reference, against the margin times `widening`."""
    bounds, floor = mean_bounds(sample, alpha, skew), -margin * widening
    low = min(bounds.low, unlike_any_seen(sample, LOWEST_SCORE - HIGHEST_SCORE, alpha, skew))
    return Check(name, *_described_bounds(bounds, low, floor), sample.sd, sample.count, margin=margin, widening=widening)


def rate_check(name: str, pairs: DiscordantPairs, margin: float, widening: float, alpha: float) -> Check:
    """The difference of two paired success rates, candidate minus reference, against the margin times `widening`."""
    bounds = difference_bounds(DiscordantPairs(worse=pairs.better, better=pairs.worse, of=pairs.of), alpha)
    floor = -margin * widening
    text = f"{bounds.mean:+.1%} (interval {bounds.low:+.1%} to {bounds.high:+.1%}) against a margin of {floor:.1%}"
    sd = math.sqrt(max(0.0, (pairs.worse + pairs.better) / pairs.of - bounds.mean**2))
    return Check(name, bounds, floor, text, sd, pairs.of, margin=margin, widening=widening)
