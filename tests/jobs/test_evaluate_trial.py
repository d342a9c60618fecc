"""The trial: not worse, everywhere, or no promotion; and what is missing never helps the candidate."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from subterra_api.v1alpha1.compilerun import Branch
from subterra_jobs.evaluate.bounds import Discordant, Sample, Share
from subterra_jobs.evaluate.judge import CRITERIA
from subterra_jobs.evaluate.pairing import Arm, compare, missing, own
from subterra_jobs.evaluate.trial import Comparison, Policy, Trial, decide, futile, spend

POLICY = Policy()


def compared(
    mean: float = 0.0, *, n: int = 300, sd: float = 0.9, failures: tuple[int, int] = (15, 15), against: str = "serving",
    judges: tuple[float, float] | None = None, **other: Sample,
) -> Comparison:  # fmt: skip
    samples: Mapping[str, Sample] = dict.fromkeys(CRITERIA, Sample(n, mean, sd)) | other
    means = dict.fromkeys(samples, judges or (mean, mean))
    return Comparison(against, samples, means, Discordant(*failures, n))


def trial(*comparisons: Comparison, n: int = 300, attempt: int = 1, **fields: object) -> Trial:
    base = Trial(n, attempt, dict.fromkeys(CRITERIA, Sample(n, 4.4, 0.8)), Share(n // 12, n), Share(n - n // 20, n))
    return replace(base, comparisons=comparisons, **fields)


def test_an_equal_candidate_passes_on_everything_at_once() -> None:
    verdict = decide(trial(compared()), POLICY)
    assert verdict.result == "Pass"
    assert verdict.reasons == ("all 13 checks passed on 300 scenarios at a one-sided level of 0.04",)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_one_criterion_that_is_worse_is_enough_to_refuse(criterion: str) -> None:
    verdict = decide(trial(compared(**{criterion: Sample(300, -0.6, 0.9)})), POLICY)
    assert verdict.result == "Fail"
    assert verdict.reasons == (f"{criterion} against serving: mean -0.60 (interval -0.69 to -0.51) against -0.25",)


def test_a_difference_that_may_be_beyond_the_margin_is_inconclusive_and_says_how_many_would_decide() -> None:
    verdict = decide(trial(compared(naturalness=Sample(300, -0.2, 0.9))), POLICY)
    assert verdict.result == "Inconclusive"
    assert len(verdict.reasons) == 1
    # (2.4089 + 0.8416)² × 0.9² / 0.05², at the level of the second attempt
    assert verdict.reasons[0].endswith("about 3,423 scenarios would decide if this is how it is")


def test_the_scenarios_that_would_decide_graceful_handling_are_counted_in_all_scenarios_not_in_challenges() -> None:
    verdict = decide(trial(compared(gracefulHandling=Sample(100, -0.2, 0.9))), POLICY)
    assert "about 10,270 scenarios" in verdict.reasons[0]


def test_a_difference_at_the_margin_itself_is_never_told_apart_from_it() -> None:
    assert (
        "more than 100,000" in decide(trial(compared(naturalness=Sample(300, -0.25, 0.9), judges=(-0.2, -0.2))), POLICY).reasons[0]
    )


def test_six_points_more_failures_are_refused_and_a_few_more_are_inconclusive() -> None:
    assert decide(trial(compared(failures=(50, 5))), POLICY).result == "Fail"
    verdict = decide(trial(compared(failures=(28, 14))), POLICY)
    assert verdict.result == "Inconclusive"
    assert verdict.reasons[0].startswith("success against serving: -4.7% ")


def test_fifty_scenarios_cannot_promote_however_good_they_look() -> None:
    verdict = decide(trial(compared(0.5, n=50, failures=(0, 5)), n=50, conformance=Share(50, 50)), POLICY)
    assert verdict.result == "Inconclusive"
    assert verdict.reasons == ("only 50 scenarios were played; 100 are the least that can promote",)


def test_fifty_scenarios_can_refuse() -> None:
    assert decide(trial(compared(-1, n=50, failures=(20, 0)), n=50), POLICY).result == "Fail"


def test_the_levels_of_all_attempts_together_are_alpha() -> None:
    assert sum(spend(0.05, attempt) for attempt in range(1, 30)) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="count from 1"):
        spend(0.05, 0)


def test_what_passes_at_first_may_not_pass_when_it_is_tried_for_the_fourth_time() -> None:
    close = compared(naturalness=Sample(300, -0.12, 0.9))
    assert decide(trial(close), POLICY).result == "Pass"
    assert decide(trial(close, attempt=4), POLICY).result == "Inconclusive"


def test_one_judge_beyond_the_margin_makes_it_inconclusive_although_the_mean_is_not() -> None:
    verdict = decide(trial(compared(judges=(0.25, -0.25))), POLICY)
    assert verdict.result == "Inconclusive"
    assert "+0.25 and -0.25; one alone is beyond the margin" in verdict.reasons[0]


def test_a_version_that_is_not_worse_than_the_last_one_may_still_be_worse_than_the_anchor() -> None:
    verdict = decide(trial(compared(-0.1), compared(-0.4, against="anchor")), POLICY)
    assert verdict.result == "Fail"
    assert all("against anchor" in reason for reason in verdict.reasons)


def test_without_a_reference_the_floors_decide() -> None:
    assert decide(trial(), POLICY).result == "Pass"
    assert decide(trial(conformance=Share(200, 300)), POLICY).result == "Fail"
    assert decide(trial(failures=Share(55, 300)), POLICY).result == "Inconclusive"


def test_a_reference_with_hardly_a_comparable_scenario_leaves_it_to_the_floors_and_says_so() -> None:
    verdict = decide(trial(compared(-2, n=29, failures=(20, 0))), POLICY)
    assert verdict.result == "Pass"
    assert verdict.reasons[1] == "advisory: only 29 scenarios can be compared with serving; the floors decided"


def test_too_few_challenges_leave_graceful_handling_open() -> None:
    verdict = decide(trial(compared(gracefulHandling=Sample(12, 0, 0.9))), POLICY)
    assert verdict.result == "Inconclusive"
    assert verdict.reasons == ("gracefulHandling against serving: only 12 scenarios can be compared; 30 are needed",)


def test_missing_judgements_make_it_inconclusive() -> None:
    assert decide(trial(compared(), missing=0.02), POLICY).result == "Pass"
    assert "2.1% of the judgements are missing" in decide(trial(compared(), missing=0.021), POLICY).reasons[0]


def test_a_branch_that_surely_fails_blocks_although_the_whole_looks_well() -> None:
    branches = (Branch(hub="choice", to="handover", conversations=40, failures=25),)
    verdict = decide(trial(compared(), branches=branches), POLICY)
    assert verdict.result == "Fail"
    assert verdict.reasons == ("branch choice → handover: 25 of 40 conversations failed, above a ceiling of 40.0%",)


def test_a_rare_branch_only_advises() -> None:
    branches = (Branch(hub="choice", to="handover", conversations=29, failures=20),)
    verdict = decide(trial(compared(), branches=branches), POLICY)
    assert verdict.result == "Pass"
    assert verdict.reasons[1] == "advisory: branch choice → handover failed in 20 of 29 conversations, too few to block"


def test_a_look_on_the_way_can_only_give_up() -> None:
    assert futile(trial(compared(-0.9, n=100), n=100), POLICY)
    assert not futile(trial(compared(-0.3, n=100), n=100), POLICY)
    assert not futile(trial(compared(0.5, n=100), n=100), POLICY)


def arm(scores: object, played: object = True) -> Arm:
    values = np.broadcast_to(np.asarray(scores, dtype=float), (40, 5, 2)).copy()
    return Arm(values, np.broadcast_to(np.asarray(played), (40,)).copy())


EVERY = np.ones(40, dtype=bool)


def test_what_the_candidate_could_not_play_or_nobody_judged_counts_as_its_worst_and_as_the_references_best() -> None:
    gaps = np.full((40, 5, 2), 4.0)
    gaps[0] = np.nan
    mine = compare("serving", arm(gaps), arm(4), challenged=EVERY, comparable=EVERY)
    assert mine.criteria["consistency"].mean == pytest.approx(-3 / 40)
    assert mine.failures == Discordant(1, 0, 40)
    theirs = compare("serving", arm(4), arm(gaps), challenged=EVERY, comparable=EVERY)
    assert theirs.criteria["consistency"].mean == pytest.approx(-1 / 40)
    assert theirs.failures == Discordant(0, 0, 40)
    unplayed = compare("serving", arm(4, np.arange(40) > 0), arm(4), challenged=EVERY, comparable=EVERY)
    assert unplayed.criteria == mine.criteria


def test_only_gaps_of_played_conversations_are_the_judges() -> None:
    gaps = np.full((40, 5, 2), 4.0)
    gaps[:4, :, 1] = np.nan
    assert missing(arm(gaps), arm(4)) == pytest.approx(4 / 160)
    assert missing(arm(gaps, np.arange(40) >= 4)) == 0
    assert missing(arm(np.nan, False)) == 0


def test_scenarios_that_the_edit_touches_are_not_compared() -> None:
    scores = np.full((40, 5, 2), 4.0)
    scores[:20] = 1
    found = compare("serving", arm(4), arm(scores), challenged=EVERY, comparable=np.arange(40) >= 20)
    assert {(sample.n, sample.mean) for sample in found.criteria.values()} == {(20, 0.0)}
    assert found.failures == Discordant(0, 0, 20)


def test_graceful_handling_is_compared_where_there_was_something_to_handle() -> None:
    found = compare("serving", arm(4), arm(4), challenged=np.arange(40) < 12, comparable=np.arange(40) >= 2)
    assert {name: sample.n for name, sample in found.criteria.items()} == dict.fromkeys(CRITERIA, 38) | {"gracefulHandling": 10}
    calm = compare("serving", arm(4), arm(4), challenged=~EVERY, comparable=EVERY)
    assert "gracefulHandling" not in calm.criteria


def test_judges_count_alike_and_their_own_differences_are_kept() -> None:
    scores = np.full((40, 5, 2), 4.0)
    scores[:, :, 1] = 3
    found = compare("serving", arm(scores), arm(4), challenged=EVERY, comparable=EVERY)
    assert found.criteria["taskSuccess"].mean == -0.5
    assert found.judges["taskSuccess"] == (0, -1)


def test_the_candidates_own_scores_are_for_the_floors() -> None:
    criteria, failures = own(arm(3), np.arange(40) < 7)
    assert failures == Share(40, 40)
    assert criteria["gracefulHandling"] == Sample(7, 3.0, 0.0)
    assert criteria["naturalness"].n == 40
