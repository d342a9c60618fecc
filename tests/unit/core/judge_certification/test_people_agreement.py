"""Agreement with people is that of the evaluation, not that of the sheet."""

import pytest

from subterra_core.judge_certification.people_agreement import ScorePair, agreement


def test_equal_scores_agree_fully_also_if_all_are_the_same() -> None:
    for scores in ((5, 5, 5), (1, 3, 5)):
        found = agreement([ScorePair(score, score, 1) for score in scores])
        assert (found.kappa, found.exact, found.within_one, found.bias) == (1.0, 1.0, 1.0, 0.0)


def test_opposite_scores_disagree_fully() -> None:
    found = agreement([ScorePair(5, 1, 1), ScorePair(1, 5, 1)])
    assert (found.kappa, found.exact, found.within_one) == (-1.0, 0.0, 0.0)


def test_a_lenient_judge_shows_in_the_bias() -> None:
    found = agreement([ScorePair(people + 1, people, 1) for people in (1, 2, 3, 4)])
    assert (found.bias, found.exact, found.within_one) == (1.0, 0.0, 1.0)
    assert found.kappa == pytest.approx(1 - 1 / 3.5)


def test_a_weight_counts_like_as_many_conversations() -> None:
    pairs = [ScorePair(5, 5, 3), ScorePair(2, 3, 1), ScorePair(4, 2, 2)]
    repeated = [ScorePair(pair.judge, pair.people, 1) for pair in pairs for _ in range(int(pair.weight))]
    weighted, plain = agreement(pairs), agreement(repeated)
    assert (weighted.kappa, weighted.exact, weighted.bias) == pytest.approx((plain.kappa, plain.exact, plain.bias))
