"""From two arms' scores to what the gate reads: what is missing never helps the candidate."""

import numpy as np
import pytest

from subterra_api.v1alpha1.scores import DiscordantPairs, Proportion, SampleStats
from subterra_jobs.evaluate.analysis.gate_statistics import Scope, candidate_summary, compare
from subterra_jobs.evaluate.analysis.paired_scores import ArmScores, missing_share
from subterra_jobs.evaluate.judge.results import CRITERIA


def arm(scores: object, played: object = True) -> ArmScores:
    values = np.broadcast_to(np.asarray(scores, dtype=float), (40, 5, 2)).copy()
    return ArmScores(values, np.broadcast_to(np.asarray(played), (40,)).copy())


EVERY = np.ones(40, dtype=bool)


def test_what_the_candidate_could_not_play_or_nobody_judged_counts_as_its_worst_and_as_the_references_best() -> None:
    gaps = np.full((40, 5, 2), 4.0)
    gaps[0] = np.nan
    mine = compare("serving", arm(gaps), arm(4), Scope(EVERY, EVERY))
    assert mine.criteria["consistency"].mean == pytest.approx(-3 / 40)
    assert mine.failures == DiscordantPairs(worse=1, better=0, of=40)
    theirs = compare("serving", arm(4), arm(gaps), Scope(EVERY, EVERY))
    assert theirs.criteria["consistency"].mean == pytest.approx(-1 / 40)
    assert theirs.failures == DiscordantPairs(worse=0, better=0, of=40)
    unplayed = compare("serving", arm(4, np.arange(40) > 0), arm(4), Scope(EVERY, EVERY))
    assert unplayed.criteria == mine.criteria


def test_only_gaps_of_played_conversations_are_the_judges() -> None:
    gaps = np.full((40, 5, 2), 4.0)
    gaps[:4, :, 1] = np.nan
    assert missing_share(arm(gaps), arm(4)) == pytest.approx(4 / 160)
    assert missing_share(arm(gaps, np.arange(40) >= 4)) == 0
    assert missing_share(arm(np.nan, False)) == 0


def test_scenarios_that_the_edit_touches_are_not_compared() -> None:
    scores = np.full((40, 5, 2), 4.0)
    scores[:20] = 1
    found = compare("serving", arm(4), arm(scores), Scope(EVERY, np.arange(40) >= 20))
    assert {(sample.count, sample.mean) for sample in found.criteria.values()} == {(20, 0.0)}
    assert found.failures == DiscordantPairs(worse=0, better=0, of=20)


def test_graceful_handling_is_compared_where_there_was_something_to_handle() -> None:
    found = compare("serving", arm(4), arm(4), Scope(np.arange(40) < 12, np.arange(40) >= 2))
    assert {name: sample.count for name, sample in found.criteria.items()} == dict.fromkeys(CRITERIA, 38) | {"gracefulHandling": 10}
    calm = compare("serving", arm(4), arm(4), Scope(~EVERY, EVERY))
    assert "gracefulHandling" not in calm.criteria


def test_judges_count_alike_and_their_own_differences_are_kept() -> None:
    scores = np.full((40, 5, 2), 4.0)
    scores[:, :, 1] = 3
    found = compare("serving", arm(scores), arm(4), Scope(EVERY, EVERY))
    assert found.criteria["taskSuccess"].mean == -0.5
    assert found.criteria["taskSuccess"].judges == (0, -1)


def test_the_candidates_own_scores_are_for_the_floors() -> None:
    criteria, failures = candidate_summary(arm(3), Scope(np.arange(40) < 7, EVERY))
    assert failures == Proportion(hits=40, of=40)
    assert criteria["gracefulHandling"] == SampleStats(count=7, mean=3.0, sd=0.0)
    assert criteria["naturalness"].count == 40


def test_a_judge_who_is_missing_on_one_side_costs_no_point_and_hides_none() -> None:
    """One strict judge and one lenient: a gap must not look like a difference."""
    scores = np.broadcast_to(np.array([3.0, 5.0]), (40, 5, 2)).copy()
    gaps = scores.copy()
    gaps[::4, :, 0] = np.nan
    for mine, theirs in ((gaps, scores), (scores, gaps)):
        found = compare("serving", arm(mine), arm(theirs), Scope(EVERY, EVERY))
        assert {sample.mean for sample in found.criteria.values()} == {0.0}
    worse = gaps.copy()
    worse[::4, :, 1] = 1
    found = compare("serving", arm(worse), arm(scores), Scope(EVERY, EVERY))
    assert found.criteria["consistency"].mean == pytest.approx(-1)
    assert found.failures == DiscordantPairs(worse=10, better=0, of=40)


def test_one_missing_judgement_of_two_is_no_failure() -> None:
    gaps = np.full((40, 5, 2), 5.0)
    gaps[:3, :, 1] = np.nan
    criteria, failures = candidate_summary(arm(gaps), Scope(EVERY, EVERY))
    assert failures.hits == 0
    assert criteria["taskSuccess"].mean == 5


def test_equal_customers_are_one_observation() -> None:
    scores = np.repeat(np.random.default_rng(1).integers(1, 6, (20, 5, 2)), 2, axis=0).astype(float)
    customers = np.repeat(np.arange(20), 2)
    twice = compare("serving", arm(scores), arm(3), Scope(EVERY, EVERY, customers=customers))
    once = compare("serving", ArmScores(scores[::2], EVERY[::2]), ArmScores(np.full((20, 5, 2), 3.0), EVERY[::2]), ONCE)
    assert twice == once


ONCE = Scope(EVERY[::2], EVERY[::2])


def test_customers_who_are_all_different_change_nothing() -> None:
    scores = np.random.default_rng(2).integers(1, 6, (40, 5, 2)).astype(float)
    numbered = Scope(EVERY, EVERY, customers=np.arange(40))
    assert compare("serving", arm(scores), arm(3), numbered) == compare("serving", arm(scores), arm(3), Scope(EVERY, EVERY))


def test_a_few_catastrophes_are_told_by_their_skewness() -> None:
    scores = np.full((40, 5, 2), 5.0)
    scores[0] = 1
    found = compare("serving", arm(scores), arm(5), Scope(EVERY, EVERY)).criteria["naturalness"]
    assert found.skew is not None
    assert found.skew < -5
    assert compare("serving", arm(5), arm(5), Scope(EVERY, EVERY)).criteria["naturalness"].skew == 0


def test_after_an_edit_what_needs_no_procedure_is_compared_on_all_scenarios() -> None:
    scope = Scope(EVERY, np.arange(40) >= 25, EVERY)
    found = compare("serving", arm(4), arm(4), scope, conformant=(EVERY, np.arange(40) != 30))
    counts = {name: sample.count for name, sample in found.criteria.items()}
    assert counts == dict.fromkeys(CRITERIA, 40) | {"taskSuccess": 15, "informationAccuracy": 15}
    assert (found.failures.of, found.scenarios, found.common) == (15, 40, 40)
    assert found.conformance == DiscordantPairs(worse=0, better=1, of=15)
