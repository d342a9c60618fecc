"""The gate's bounds agree with published examples, with scipy, and stay sensible at the edges."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from subterra_api.v1alpha1.scores import DiscordantPairs, Proportion, SampleStats
from subterra_core.gate.attempts import ALPHA, alpha_for_attempt
from subterra_core.gate.bounds import (
    difference_bounds,
    mean_bounds,
    proportion_bounds,
    scenarios_to_decide,
    t_quantile,
    tango_z,
    unlike_any_seen,
)


@pytest.mark.parametrize("freedom", [10, 11, 29, 49, 149, 299, 4999])
def test_students_quantiles_are_scipys(freedom: int) -> None:
    levels = [0.0005, 0.0008, 0.0125, 0.025, 0.5, 0.95, 0.975, 0.9875, 0.999, 0.9995]
    assert [t_quantile(p, freedom) for p in levels] == pytest.approx([stats.t.ppf(p, freedom) for p in levels], abs=0.002)


def test_the_levels_of_late_attempts_are_scipys_too() -> None:
    assert t_quantile(1 - 1e-6, 99) == pytest.approx(stats.t.ppf(1 - 1e-6, 99), abs=0.001)


def test_too_few_values_are_refused_rather_than_told_wrongly() -> None:
    with pytest.raises(ValueError, match="10 are needed"):
        t_quantile(0.95, 9)


def test_a_means_bounds_are_those_of_the_one_sided_t_test() -> None:
    values = [0, 0, 1, -1, 0, 2, -1, 0, 0, -2, 1, 0, 0, -1, 0, 1]
    found = mean_bounds(SampleStats(count=16, mean=float(np.mean(values)), sd=float(np.std(values, ddof=1))), 0.05)
    theirs = stats.ttest_1samp(values, 0, alternative="greater").confidence_interval(0.95)
    assert found.low == pytest.approx(theirs.low, abs=0.002)
    assert found.high - found.mean == pytest.approx(found.mean - found.low)


def test_constant_differences_have_bounds_of_no_width() -> None:
    assert mean_bounds(SampleStats(count=300, mean=-0.5, sd=0), 0.001).low == -0.5


def test_differences_of_paired_rates_have_tangos_published_interval() -> None:
    # Airway reactivity of 21 children: Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014).
    found = difference_bounds(DiscordantPairs(worse=1, better=7, of=21), 0.025)
    assert (found.low, found.high) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(
    "pairs",
    [
        DiscordantPairs(worse=12, better=5, of=80),
        DiscordantPairs(worse=0, better=3, of=50),
        DiscordantPairs(worse=4, better=0, of=300),
        DiscordantPairs(worse=30, better=20, of=60),
    ],
)
@pytest.mark.parametrize("supposed", [-0.3, 0.06, 0.2])
def test_the_score_is_that_of_the_likelihood_maximised_by_brute_force(pairs: DiscordantPairs, supposed: float) -> None:
    def negative_log_likelihood(better: float) -> float:
        cells = (better + supposed, better, 1 - 2 * better - supposed)
        counts = (pairs.worse, pairs.better, pairs.of - pairs.worse - pairs.better)
        return -sum(count * math.log(max(cell, 1e-300)) for cell, count in zip(cells, counts, strict=True) if count)

    span = (max(0, -supposed) + 1e-9, (1 - supposed) / 2 - 1e-9)
    better = optimize.minimize_scalar(negative_log_likelihood, bounds=span, method="bounded", options={"xatol": 1e-10}).x
    variance = pairs.of * (2 * better + supposed - supposed**2)
    expected = (pairs.worse - pairs.better - pairs.of * supposed) / math.sqrt(variance)
    assert tango_z(pairs, supposed) == pytest.approx(expected, abs=1e-3)


def test_pairs_that_never_differ_still_leave_doubt() -> None:
    found = difference_bounds(DiscordantPairs(worse=0, better=0, of=300), 0.025)
    assert (found.mean, found.low) == (0, pytest.approx(-found.high))
    assert 0.005 < found.high < 0.02


def test_pairs_that_always_differ_are_at_the_end_of_the_scale() -> None:
    found = difference_bounds(DiscordantPairs(worse=50, better=0, of=50), 0.025)
    assert found.high == pytest.approx(1, abs=1e-9)
    assert 0.8 < found.low < 1


@pytest.mark.parametrize(("hits", "of"), [(0, 20), (1, 29), (81, 263), (300, 300)])
def test_shares_have_wilsons_interval(hits: int, of: int) -> None:
    found, theirs = (
        proportion_bounds(Proportion(hits=hits, of=of), 0.025),
        stats.binomtest(hits, of).proportion_ci(0.95, method="wilson"),
    )
    assert (found.low, found.high) == pytest.approx((max(0, theirs.low), min(1, theirs.high)), abs=1e-12)


def test_the_number_that_decides_has_the_power_it_promises() -> None:
    n = scenarios_to_decide(0.25, 1.0, 0.05)
    assert n == pytest.approx((1.6449 + 0.8416) ** 2 * 16, rel=1e-3)
    assert scenarios_to_decide(0, 1, 0.05) == math.inf


def catastrophes(n: int, events: int, *, skew: bool) -> tuple[SampleStats, float | None]:
    """Differences that are 0 but for a few of -4."""
    values = np.array([-4.0] * events + [0.0] * (n - events))
    spread = values.std()
    measured = float(((values - values.mean()) ** 3).mean() / spread**3) if spread else 0.0
    sample = SampleStats(count=n, mean=float(values.mean()), sd=float(values.std(ddof=1)))
    return sample, measured if skew else None


@pytest.mark.parametrize("skew", [True, False])
def test_rare_catastrophes_that_cost_the_margin_pass_in_five_percent_at_any_size_and_over_six_attempts(skew: bool) -> None:
    rate, margin = 1 / 16, 0.25  # truly 0.25 worse
    for n in [*range(30, 121, 3), 200, 300, 500, 1000]:
        missed = 1.0
        for attempt in range(1, 7):
            level, passed = alpha_for_attempt(ALPHA, attempt), 0.0
            for events in range(n // 16 + 1):
                sample, measured = catastrophes(n, events, skew=skew)
                low = min(mean_bounds(sample, level, measured).low, unlike_any_seen(sample, -4, level, measured))
                passed += float(stats.binom.pmf(events, n, rate)) * (low >= -margin)
            assert attempt > 1 or passed <= 0.05
            missed *= 1 - passed
        assert 1 - missed <= 0.05


def test_differences_without_skewness_have_students_interval() -> None:
    sample = SampleStats(count=300, mean=0, sd=0.9)
    plain = mean_bounds(sample, 0.04)
    assert mean_bounds(sample, 0.04, 0.0) == plain
    assert mean_bounds(sample, 0.04, 2.0) == plain
    assert mean_bounds(sample, 0.04, -0.01).low == pytest.approx(plain.low, abs=0.001)
    assert unlike_any_seen(sample, -4, 0.04, 0.0) > plain.low
