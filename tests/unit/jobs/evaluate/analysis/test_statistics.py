"""The statistics agree with scipy and published results, and mean something on degenerate input."""

import numpy as np
import pytest
from scipy import stats

from subterra_jobs.evaluate.analysis.statistics import cohens_d, holm, mann_whitney, mean_interval, share_interval, wilcoxon


def test_the_bootstrap_agrees_with_scipys() -> None:
    values = [5, 4, 4, 3, 5, 2, 5, 4, 1, 5, 4, 4, 5, 3, 5, 5, 2, 4, 5, 4]
    ours = mean_interval(values, 1)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2))
    assert ours.mean == np.mean(values)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.06)


def test_the_bootstrap_is_the_same_for_the_same_seed_and_needs_little_memory() -> None:
    values = [float(i % 5 + 1) for i in range(5000)]
    assert mean_interval(values, 3) == mean_interval(values, 3)
    assert mean_interval(values, 3) != mean_interval(values, 4)


def test_constant_scores_have_an_interval_of_no_width_and_no_scores_have_none() -> None:
    found = mean_interval([5, 5, 5], 0)
    assert (found.low, found.mean, found.high) == (5, 5, 5)
    with pytest.raises(ValueError, match="the mean of no values is undefined"):
        mean_interval([], 0)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
)
def test_wilson_intervals_are_those_of_newcombe_1998(hits: int, total: int, low: float, high: float) -> None:
    found = share_interval(hits, total)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_a_perfect_share_still_has_an_interval_with_width() -> None:
    found = share_interval(50, 50)
    assert found.high == 1
    assert found.low < 0.95
    with pytest.raises(ValueError, match="is undefined"):
        share_interval(0, 0)


def test_wilcoxon_gives_the_published_result_for_darwins_maize() -> None:
    differences = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    found = wilcoxon(differences, [0] * 15)
    assert (found.statistic, found.n) == (24, 15)
    assert found.p == pytest.approx(0.0413, abs=5e-4)


def test_wilcoxon_of_equal_or_few_pairs_proves_nothing() -> None:
    assert (wilcoxon([3, 4, 5], [3, 4, 5]).p, wilcoxon([], []).p) == (1, 1)
    assert wilcoxon([5, 5, 5, 5, 5], [1, 1, 1, 1, 1]).p >= 0.05


def test_wilcoxon_copes_with_ties() -> None:
    found = wilcoxon([5, 5, 4, 5, 4, 5, 5, 4, 3, 5], [4, 4, 4, 4, 3, 4, 4, 3, 3, 4])
    assert found.n == 8
    assert found.p == pytest.approx(2 / 2**8, abs=0.01)


def test_mann_whitney_agrees_with_scipy_and_copes_with_constant_scores() -> None:
    first, second = [5, 4, 5, 3, 5], [2, 3, 1, 4, 2, 2]
    theirs = stats.mannwhitneyu(first, second)
    found = mann_whitney(first, second)
    assert (found.statistic, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert mann_whitney([5, 5], [5, 5, 5]).p == mann_whitney([], [1]).p == 1
    assert mann_whitney([5] * 20, [1] * 20).p < 0.001


def test_cohens_d_is_in_pooled_standard_deviations() -> None:
    assert cohens_d([2, 4, 6], [0, 2, 4]) == 1
    assert cohens_d([3, 3], [3, 3]) == 0
    assert cohens_d([4, 4], [3, 3]) is None
    assert cohens_d([4], [3, 2]) is None


def test_holm_gives_the_textbook_result() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.7, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
