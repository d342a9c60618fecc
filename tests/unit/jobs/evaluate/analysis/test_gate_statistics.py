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
