"""Confidence bounds from sufficient statistics, using only the standard library.

Every function takes a one-sided `alpha`: an interval misses the true value with probability 2 x alpha.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

from subterra_api.v1alpha1.scores import DiscordantPairs, Interval, Proportion, SampleStats

UNSEEN = 1.5
"""Values at the end of the scale that are added where the skewness of a sample is not known."""
_STEPS = 40
"""Bisections of an interval of length 2: accurate to 2e-12."""


@lru_cache(maxsize=4096)
def z_quantile(p: float) -> float:
    """Quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(p)


@lru_cache(maxsize=4096)
def t_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t distribution by the Cornish-Fisher expansion.

    Accurate to 0.002 for 0.0005 < p < 0.9995. Raises ValueError below 10 degrees of freedom. Source: Abramowitz and Stegun 26.7.5.
    """
    if freedom < 10:
        raise ValueError(f"the expansion is too coarse for {freedom} degrees of freedom; at least 10 are needed")
    z, v = z_quantile(p), freedom
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / v + g2 / v**2 + g3 / v**3 + g4 / v**4


def mean_bounds(sample: SampleStats, alpha: float, skew: float | None = None) -> Interval:
    """Student's t interval of a mean, with a lower bound for negative skewness if `skew` is known; needs at least 11 values.

    A few very low values among many equal ones make the t interval too narrow below. Such values come like rare events, so the
    lower bound is that of a Poisson number of losses of equal size with the sample's variance and skewness. Without skewness the
    two agree.
    """
    quantile = t_quantile(1 - alpha, sample.count - 1)
    reach = quantile * sample.sd / math.sqrt(sample.count)
    down = max(reach, _skewed_reach(sample, quantile, skew)) if skew is not None and skew < 0 else reach
    return Interval(mean=sample.mean, low=sample.mean - down, high=sample.mean + reach)


def _skewed_reach(sample: SampleStats, quantile: float, skew: float) -> float:
    """Distance of the lower bound from the mean for losses of size -skew × sd, which came count / skew² times."""
    events = sample.count / (skew * skew)
    return -skew * sample.sd * (_events_bound(events, quantile) - events) / sample.count


def _events_bound(events: float, quantile: float) -> float:
    """Upper bound of a Poisson mean, by Wilson and Hilferty's approximation to the chi-squared distribution."""
    more = events + 1
    return more * (1 - 1 / (9 * more) + quantile / (3 * math.sqrt(more))) ** 3


def unlike_any_seen(sample: SampleStats, worst: float, alpha: float, skew: float | None = None) -> float:
    """Lower bound of a mean whose rare values of `worst` may not have come yet; needs at least 11 values.

    Of events that never came in n conversations, -ln(alpha) / n may still come. Where the skewness is not known, some may also
    have come and been mistaken for spread: then the bound is that of t with one and a half values of `worst` added, which keeps
    its level from 30 values on.
    """
    n = sample.count
    if skew is not None:
        return sample.mean + min(0.0, worst - sample.mean) * -math.log(alpha) / n
    total = n + UNSEEN
    mean = (n * sample.mean + UNSEEN * worst) / total
    squares = (n - 1) * sample.sd**2 + n * (sample.mean - mean) ** 2 + UNSEEN * (worst - mean) ** 2
    return mean - t_quantile(1 - alpha, n) * math.sqrt(squares / total / (total - 1))


def proportion_bounds(proportion: Proportion, alpha: float) -> Interval:
    """Wilson's score interval of a proportion."""
    n, p, z2 = proportion.of, proportion.hits / proportion.of, z_quantile(1 - alpha) ** 2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    reach = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At the ends of the scale rounding would leave a bound next to 0 or 1, and faultless samples beyond a floor of 1.
    low, high = max(0.0, middle - reach) if proportion.hits else 0.0, min(1.0, middle + reach) if p < 1 else 1.0
    return Interval(mean=p, low=low, high=high)


def difference_bounds(pairs: DiscordantPairs, alpha: float) -> Interval:
    """Tango's score interval of the difference of two paired failure rates, candidate minus reference.

    Unlike Wald's interval it keeps its level for rare failures, and has a width even if no pair differs. Source: Tango,
    Statistics in Medicine 17 (1998).
    """
    observed, z = (pairs.worse - pairs.better) / pairs.of, z_quantile(1 - alpha)
    low = _bisect(lambda d: tango_z(pairs, d) - z, -1.0, observed)
    high = _bisect(lambda d: tango_z(pairs, d) + z, observed, 1.0)
    return Interval(mean=observed, low=low, high=high)


def tango_z(pairs: DiscordantPairs, difference: float) -> float:
    """Tango's score statistic: standard errors by which the pairs exceed a hypothesized difference of the rates."""
    n, b, c = pairs.of, pairs.worse, pairs.better
    distance = b - c - n * difference
    if distance == 0:
        return 0.0
    half = (b + c - (2 * n - b + c) * difference) / (4 * n)
    better = half + math.sqrt(max(0.0, half * half + c * difference * (1 - difference) / (2 * n)))
    variance = n * (2 * better + difference * (1 - difference))
    return math.copysign(math.inf, distance) if variance <= 0 else distance / math.sqrt(variance)


def scenarios_to_decide(distance: float, sd: float, alpha: float, power: float = 0.8) -> float:
    """Number of values needed to decide, with this power, a mean at this distance from its floor; infinite at distance 0."""
    if distance == 0:
        return math.inf
    return ((z_quantile(1 - alpha) + z_quantile(power)) * sd / distance) ** 2


def _bisect(decreasing: Callable[[float], float], low: float, high: float) -> float:
    """Root of a decreasing function; one end of the range if there is none."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if decreasing(middle) > 0 else (low, middle)
    return (low + high) / 2
