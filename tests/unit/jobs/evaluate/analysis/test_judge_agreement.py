"""Agreement of judges: textbook values, and judges that never vary."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from subterra_jobs.evaluate.analysis.judge_agreement import (
    judge_reliability,
    kappa_interval,
    repeat_variance,
    weighted_kappa,
)
from subterra_jobs.evaluate.analysis.statistics import cohens_dz
from subterra_jobs.evaluate.judge.results import Judgement, Repeat, Result
from subterra_testkit.runs.reports import single


@pytest.fixture(scope="module")
def results() -> Sequence[Result]:
    return single(60)[1]["candidate"]


YES_NO = ([1] * 20 + [1] * 5 + [0] * 10 + [0] * 15, [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)


def by_table(first: list[int], second: list[int]) -> float:
    """Cohen's (1968) definition: one minus weighted disagreement over the one expected from the margins."""
    table = np.zeros((5, 5))
    for a, b in zip(first, second, strict=True):
        table[a - 1, b - 1] += 1 / len(first)
    weights = np.array([[(i - j) ** 2 for j in range(5)] for i in range(5)])
    chance = np.outer(table.sum(axis=1), table.sum(axis=0))
    return float(1 - (weights * table).sum() / (weights * chance).sum())


def test_with_two_categories_it_is_the_textbooks_kappa() -> None:
    assert weighted_kappa(*YES_NO) == pytest.approx(0.4)


def test_it_is_cohens_definition_by_the_table_of_both_judges() -> None:
    first, second = [5, 4, 4, 3, 5, 2, 1, 5, 4, 3], [5, 5, 4, 2, 4, 2, 2, 5, 3, 3]
    assert weighted_kappa(first, second) == pytest.approx(by_table(first, second))


def test_equal_judges_agree_fully_also_when_they_never_vary_and_a_constant_one_agrees_by_chance_only() -> None:
    assert weighted_kappa([1, 5, 3], [1, 5, 3]) == weighted_kappa([5, 5], [5, 5]) == 1
    assert weighted_kappa([4, 4, 4, 4], [3, 5, 3, 5]) == pytest.approx(0)
    assert weighted_kappa([1, 5], [5, 1]) == -1


def test_its_interval_is_around_it_and_of_no_width_for_constant_judges() -> None:
    found = kappa_interval(*YES_NO, np.random.default_rng(1))
    assert found.mean == pytest.approx(0.4)
    # Cohen's (1960) standard error: √(0.7 × 0.3 / 50) / 0.5 = 0.13, so about 0.15 to 0.65.
    assert (found.low, found.high) == pytest.approx((0.15, 0.65), abs=0.04)
    assert kappa_interval([5] * 10, [5] * 10, np.random.default_rng(1)).low == 1


def test_scores_of_other_conversations_are_refused() -> None:
    with pytest.raises(ValueError, match="the same conversations, not 2 and 1"):
        weighted_kappa([1, 2], [1])
    with pytest.raises(ValueError, match="0 and 0"):
        weighted_kappa([], [])


def test_repeat_variance_is_pooled_over_conversations() -> None:
    assert repeat_variance([[4, 4], [3, 5]]) == pytest.approx(1)
    assert repeat_variance([[4, 4, 4], [3, 5], [1]]) == pytest.approx(2 / 3)
    assert repeat_variance([[4], [5]]) is None
    assert repeat_variance([]) is None


def test_cohens_dz_is_in_standard_deviations_of_the_differences() -> None:
    assert cohens_dz([4, 5, 6], [3, 3, 3]) == 2
    assert cohens_dz([3, 4, 5], [3, 4, 5]) == 0
    assert cohens_dz([4, 5], [3, 4]) is None
    assert cohens_dz([], []) is None
    assert cohens_dz([4], [3]) is None


def judged_twice(results: Sequence[Result], second: Callable[[Judgement], Judgement | None]) -> list[Result]:
    """The results with a second judge."""
    return [replace(each, judgements=(each.judgements[0], second(each.judgements[0]))) for each in results if each.judgements[0]]


def test_two_judges_who_agree_have_full_reliability_and_one_who_guesses_has_not(results: Sequence[Result]) -> None:
    same = judge_reliability({"candidate": judged_twice(results, lambda first: first)}, ())
    assert same is not None
    assert (same.kappa, same.disagreement) == (1, 0)
    rng = np.random.default_rng(3)

    def guess(first: Judgement) -> Judgement:
        return replace(first, scores={name: int(rng.integers(1, 6)) for name in first.scores})

    random = judge_reliability({"candidate": judged_twice(results, guess)}, ())
    assert random is not None
    assert random.kappa is not None
    assert random.disagreement is not None
    assert random.kappa < 0.3
    assert random.disagreement > 1


def test_rules_have_no_reliability_and_repeats_have_a_spread(results: Sequence[Result]) -> None:
    arms = {"candidate": results}
    assert judge_reliability(arms, ()) is None
    [first] = results[0].judgements
    assert first is not None
    lower = replace(first, scores={name: score - 1 for name, score in first.scores.items()})
    found = judge_reliability(arms, (Repeat(0, first, lower),))
    assert found is not None
    assert found.repeat_sd == (pytest.approx(0.5**0.5, abs=1e-3),)
    assert found.kappa is None
