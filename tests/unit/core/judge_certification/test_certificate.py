"""The bounds hold for judges whose sensitivity and specificity are known, also where failures are drawn more often."""

import random

import pytest
from scipy.stats import binomtest

from subterra_core.judge_certification.certificate import Opinion, Population, certify
from subterra_core.judge_certification.exact_bounds import lower_bound, upper_bound
from subterra_core.judge_certification.sheet_sample import draw_sheet

FAILED, FINE = 2.0, 5.0


def opinions(*groups: tuple[int, bool, bool, bool]) -> list[Opinion]:
    """Groups of equal opinions: how many, people's failure, the judge's, drawn as a failure."""
    return [
        Opinion(FAILED if people else FINE, FAILED if judge else FINE, drawn)
        for count, people, judge, drawn in groups
        for _ in range(count)
    ]


@pytest.mark.parametrize(("hits", "of"), [(0, 10), (3, 10), (10, 10), (95, 100), (1, 700)])
def test_bounds_are_those_of_scipy(hits: int, of: int) -> None:
    exact = binomtest(hits, of).proportion_ci(0.9, method="exact")
    assert (lower_bound(hits, of, 0.05), upper_bound(hits, of, 0.05)) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_nothing_counted_bounds_nothing() -> None:
    assert (lower_bound(0, 0, 0.05), upper_bound(0, 0, 0.05)) == (0.0, 1.0)


def test_a_simple_sample_has_exact_bounds() -> None:
    found = certify(opinions((18, True, True, False), (2, True, False, False), (80, False, False, False)), None)
    assert (found.sensitivity.share, found.sensitivity.hits, found.sensitivity.of) == (0.9, 18, 20)
    assert found.sensitivity.low == pytest.approx(binomtest(18, 20).proportion_ci(0.9, method="exact").low)
    assert found.specificity.share == 1.0
    assert found.certified(0.7, 0.95)
    assert not found.certified(0.8, 0.95)


def test_a_missed_failure_counts_for_all_that_it_stands_for() -> None:
    """99 of 100 labelled failures were found, but the one that was missed stands for nine."""
    found = certify(opinions((99, True, True, True), (1, True, False, False), (99, False, False, False)), Population(99, 900))
    assert found.sensitivity.share == pytest.approx(99 / 108)
    assert (found.sensitivity.hits, found.sensitivity.of) == (99, 100)
    assert found.sensitivity.low < 0.75


def test_failures_that_were_never_looked_for_certify_no_judge() -> None:
    found = certify(opinions((100, True, True, True), (20, False, False, False)), Population(100, 900))
    assert found.sensitivity.share == 1.0
    assert found.sensitivity.low < 0.5


def test_people_without_failures_certify_no_judge() -> None:
    for population in (None, Population(0, 900)):
        found = certify(opinions((100, False, False, False)), population)
        assert found.sensitivity.share is None
        assert found.sensitivity.low == 0.0
        assert found.specificity.low > 0.9


def test_one_of_several_judges_need_not_call_all_of_them_failures() -> None:
    drawn = opinions((60, True, True, True), (20, True, False, True), (20, False, False, True), (200, False, False, False))
    found = certify(drawn, Population(100, 900, judges=2))
    assert found.sensitivity.share == pytest.approx(0.75)
    assert found.sensitivity.low < 0.75
    assert found.specificity.share == 1.0


@pytest.mark.parametrize(("sensitivity", "specificity", "failures"), [(0.8, 0.95, 0.15), (0.9, 0.8, 0.1), (0.7, 0.99, 0.3)])
def test_bounds_exceed_the_truth_of_a_judge_in_one_sheet_of_twenty_at_most(
    sensitivity: float, specificity: float, failures: float
) -> None:
    rng, sheets, too_high = random.Random(5), 200, [0, 0]
    for seed in range(sheets):
        people = [rng.random() < failures for _ in range(600)]
        played = [(failed, rng.random() < (sensitivity if failed else 1 - specificity)) for failed in people]
        drawn = draw_sheet([one for one in played if one[1]], [one for one in played if not one[1]], 300, seed)
        sheet = opinions(*((1, *one, flagged) for one, flagged in drawn.drawn))
        found = certify(sheet, Population(drawn.flagged, drawn.others))
        too_high[0] += found.sensitivity.low > sensitivity
        too_high[1] += found.specificity.low > specificity
    assert max(too_high) <= 0.05 * sheets


def test_a_good_judge_is_certified_by_the_default_sheet() -> None:
    drawn = opinions((66, True, True, True), (4, False, True, True), (230, False, False, False))
    assert certify(drawn, Population(70, 530)).certified(0.8, 0.8)


def test_a_small_evaluation_shows_less_than_a_large_one() -> None:
    """How many conversations the judge calls a failure is itself only known from those that were played."""
    drawn = opinions((30, True, True, True), (2, False, True, True), (90, False, False, False))
    small, large = (certify(drawn, Population(32 * times, 90 * times)) for times in (1, 20))
    assert small.sensitivity.share == large.sensitivity.share
    assert small.sensitivity.low < large.sensitivity.low
    assert small.specificity.low < large.specificity.low
