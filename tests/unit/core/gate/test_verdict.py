"""The gate: not worse, everywhere, or no promotion; the bound decides, not the mean."""

import math
from typing import Any

import pytest

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import (
    Branch,
    Comparison,
    Difference,
    DiscordantPairs,
    Interval,
    Proportion,
    SampleStats,
    Scores,
    Statistics,
    Verdict,
)
from subterra_core.gate.attempts import alpha_for_attempt
from subterra_core.gate.branch_failures import binomial_tail
from subterra_core.gate.verdict import futile, judge

CRITERIA = ("taskSuccess", "informationAccuracy", "consistency", "gracefulHandling", "naturalness")
POLICY = GatePolicy()
UNREAD = Interval(mean=0, low=0, high=0)


def difference(mean: float = 0.0, *, n: int = 300, sd: float = 0.9, judges: tuple[float, ...] | None = None) -> Difference:
    return Difference(count=n, mean=mean, sd=sd, judges=judges or (mean, mean))


def compared(
    mean: float = 0.0,
    *,
    n: int = 300,
    failures: tuple[int, int] = (15, 15),
    against: str = "serving",
    judges: tuple[float, float] | None = None,
    **other: Difference,
) -> Comparison:
    criteria = dict.fromkeys(CRITERIA, difference(mean, n=n, judges=judges)) | other
    return Comparison(against=against, criteria=criteria, failures=DiscordantPairs(worse=failures[0], better=failures[1], of=n))


def statistics(
    *comparisons: Comparison,
    n: int = 300,
    mean: float = 4.4,
    failures: int | None = None,
    conformant: int | None = None,
    missing: float = 0.0,
    **criteria: SampleStats,
) -> Statistics:
    own = dict.fromkeys(CRITERIA, SampleStats(count=n, mean=mean, sd=0.8)) | criteria
    return Statistics(
        criteria=own,
        failures=Proportion(hits=n // 12 if failures is None else failures, of=n),
        conformance=Proportion(hits=n - n // 20 if conformant is None else conformant, of=n),
        comparisons=comparisons,
        missing=missing,
    )


def scores(*comparisons: Comparison, n: int = 300, branches: tuple[Branch, ...] = (), judged: int = 1, **more: Any) -> Scores:
    return Scores(
        scenarios=n,
        criteria={},
        failure_rate=UNREAD,
        conformance=UNREAD,
        turns_per_conversation=6,
        branches_judged=judged,
        worst_branches=branches,
        statistics=statistics(*comparisons, n=n, **more),
    )


def decided(*comparisons: Comparison, policy: GatePolicy = POLICY, attempt: int = 1, **fields: Any) -> Verdict:
    return judge(scores(*comparisons, **fields), policy, attempt)


def test_an_equal_candidate_passes_on_everything_at_once() -> None:
    verdict = decided(compared())
    assert verdict.result == "Pass"
    assert verdict.reasons[0] == "all 13 checks passed on 300 scenarios at a one-sided level of 0.04"


@pytest.mark.parametrize("criterion", CRITERIA)
def test_one_criterion_that_is_worse_is_enough_to_refuse(criterion: str) -> None:
    verdict = decided(compared(**{criterion: difference(-0.6)}))
    assert verdict.result == "Fail"
    assert verdict.reasons == (f"{criterion} against serving: mean -0.60 (interval -0.71 to -0.51) against -0.25",)


def test_a_difference_that_may_be_beyond_the_margin_is_inconclusive_and_says_how_many_would_show_an_equal_candidate() -> None:
    verdict = decided(compared(naturalness=difference(-0.2, sd=1.2)))
    assert verdict.result == "Inconclusive"
    assert len(verdict.reasons) == 1
    # (2.4089 + 1.6449)² × 1.2² / 0.25², at the level of the second attempt
    assert verdict.reasons[0].endswith("if it is as good, about 379 scenarios would show it in the next attempt")


def test_the_scenarios_that_would_decide_graceful_handling_are_counted_in_all_scenarios_not_in_challenges() -> None:
    assert "about 639 scenarios" in decided(compared(gracefulHandling=difference(-0.2, n=100))).reasons[0]


def test_no_fewer_scenarios_than_there_were_are_asked_for() -> None:
    assert "about 300 scenarios" in decided(compared(naturalness=difference(-0.25, judges=(-0.2, -0.2)))).reasons[0]


def test_a_mean_next_to_its_floor_is_not_told_apart_from_it() -> None:
    assert "more than 100,000 scenarios" in decided(naturalness=SampleStats(count=300, mean=3.5, sd=0.8)).reasons[0]


def test_a_margin_is_what_the_policy_says() -> None:
    worse = compared(naturalness=difference(-0.3))
    assert decided(worse).result == "Inconclusive"
    assert decided(worse, policy=GatePolicy(margin=0.5)).result == "Pass"


def test_six_points_more_failures_are_refused_and_a_few_more_are_inconclusive() -> None:
    assert decided(compared(failures=(50, 5))).result == "Fail"
    verdict = decided(compared(failures=(28, 14)))
    assert verdict.result == "Inconclusive"
    assert verdict.reasons[0].startswith("success against serving: -4.7% ")
    assert decided(compared(failures=(28, 14)), policy=GatePolicy(failure_margin=0.2)).result == "Pass"


def test_fifty_scenarios_cannot_promote_however_good_they_look() -> None:
    verdict = decided(compared(0.5, n=50, failures=(0, 5)), n=50, conformant=50)
    assert verdict.result == "Inconclusive"
    assert verdict.reasons == ("only 50 scenarios were simulated, but a promotion needs at least 100; raise evaluation.scenarios",)


def test_fifty_scenarios_can_refuse() -> None:
    assert decided(compared(-1, n=50, failures=(20, 0)), n=50).result == "Fail"


def test_the_levels_of_all_attempts_together_are_alpha() -> None:
    assert sum(alpha_for_attempt(0.05, attempt) for attempt in range(1, 30)) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="count from 1"):
        alpha_for_attempt(0.05, 0)


def test_the_last_attempt_that_the_api_allows_is_judged_too_and_all_of_them_have_alpha() -> None:
    assert decided(compared(), attempt=1_000_000).result == "Inconclusive"
    assert decided(compared(-1), attempt=1_000_000).result == "Fail"
    assert sum(alpha_for_attempt(0.05, attempt) for attempt in range(1, 1000)) + 999_000 * alpha_for_attempt(0.05, 1000) < 0.050002


def test_what_passes_at_first_may_not_pass_when_it_is_tried_for_the_fourth_time() -> None:
    close = compared(naturalness=difference(-0.12))
    assert decided(close).result == "Pass"
    assert decided(close, attempt=4).result == "Inconclusive"


def test_one_judge_beyond_the_margin_makes_it_inconclusive_although_the_mean_is_not() -> None:
    verdict = decided(compared(judges=(0.25, -0.25)))
    assert verdict.result == "Inconclusive"
    assert "the judges disagree (+0.25, -0.25): at least one of them alone exceeds the margin" in verdict.reasons[0]


def test_a_version_that_is_not_worse_than_the_last_one_may_still_be_worse_than_the_anchor() -> None:
    verdict = decided(compared(-0.1), compared(-0.4, against="anchor"))
    assert verdict.result == "Fail"
    assert all("against anchor" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("mean", "result"),
    [(3.6, "Pass"), (3.55, "Inconclusive"), (3.45, "Inconclusive"), (3.4, "Fail")],
)
def test_without_a_reference_the_floors_decide_by_their_bounds(mean: float, result: str) -> None:
    verdict = decided(naturalness=SampleStats(count=300, mean=mean, sd=0.8))
    assert verdict.result == result
    assert result == "Pass" or verdict.reasons[0].startswith(f"naturalness: mean {mean:.2f}")


def test_failures_and_conformance_have_floors_of_their_own() -> None:
    assert decided(conformant=200).result == "Fail"
    assert decided(failures=55).result == "Inconclusive"
    verdict = decided(failures=120)
    assert verdict.result == "Fail"
    assert verdict.reasons == ("success: 60.0% (interval 55.0% to 64.8%) against a floor of 80.0%",)


def test_a_failure_outweighs_an_open_question() -> None:
    verdict = decided(conformant=150, naturalness=SampleStats(count=300, mean=3.5, sd=0.8))
    assert (verdict.result, len(verdict.reasons)) == ("Fail", 1)


def test_a_reference_with_hardly_a_comparable_scenario_leaves_it_to_the_floors_and_says_so() -> None:
    verdict = decided(compared(-2, n=29, failures=(20, 0)))
    assert verdict.result == "Pass"
    assert verdict.reasons[1] == "advisory: only 29 scenarios can be compared with serving; the floors decided"


def test_an_edit_that_touches_most_challenges_leaves_graceful_handling_to_its_floor() -> None:
    verdict = decided(compared(gracefulHandling=difference(-1, n=12)), gracefulHandling=SampleStats(count=90, mean=4.4, sd=0.8))
    assert verdict.result == "Pass"
    assert verdict.reasons[1] == "advisory: gracefulHandling: only 12 scenarios can be compared with serving; its floor decided"


def test_too_few_challenges_leave_graceful_handling_open() -> None:
    few = SampleStats(count=12, mean=4.4, sd=0.8)
    verdict = decided(compared(gracefulHandling=difference(n=12)), gracefulHandling=few)
    assert verdict.result == "Inconclusive"
    assert verdict.reasons == ("gracefulHandling against serving: only 12 scenarios can be compared; 30 are needed",)
    assert (
        decided(gracefulHandling=few)
        .reasons[1]
        .startswith("advisory: gracefulHandling was not judged, since it applies to only 12")
    )


def test_missing_judgements_make_it_inconclusive() -> None:
    assert decided(compared(), missing=0.02).result == "Pass"
    assert "2.1% of the judgements are missing" in decided(compared(), missing=0.021).reasons[0]


def test_scores_without_statistics_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="evaluate again"):
        judge(scores().model_copy(update={"statistics": None}), POLICY)


def test_a_look_on_the_way_can_only_give_up() -> None:
    assert futile(statistics(compared(-0.9, n=100), n=100), POLICY)
    assert not futile(statistics(compared(-0.3, n=100), n=100), POLICY)
    assert not futile(statistics(compared(0.5, n=100), n=100), POLICY)


@pytest.mark.parametrize("attempt", [1, 3, 6])
def test_what_a_look_gives_up_the_gate_fails_at_any_attempt(attempt: int) -> None:
    steps = [compared(-step / 50, n=100) for step in range(50)]
    hopeless = [each for each in steps if futile(statistics(each, n=100), POLICY, attempt)]
    assert hopeless
    assert {judge(scores(each, n=100), POLICY, attempt).result for each in hopeless} == {"Fail"}


def test_an_evaluation_that_ended_early_promotes_under_no_policy() -> None:
    early = scores(compared()).model_copy(update={"planned": 1000})
    verdict = judge(early, POLICY)
    assert verdict.result == "Inconclusive"
    assert "of 1000 scenarios were simulated" in verdict.reasons[0]
    assert "evaluation.seed" in verdict.reasons[0]


def test_a_candidate_that_was_given_up_is_told_to_be() -> None:
    early = scores(compared(-0.9, n=100), n=100).model_copy(update={"planned": 300})
    verdict = judge(early, POLICY)
    assert verdict.result == "Fail"
    assert verdict.reasons[-1] == "advisory: only 100 of 300 scenarios were simulated; more could not have changed the result"


def judged(*branches: tuple[int, int], among: int = 1) -> Verdict:
    """The verdict on fine scores with branches of so many failures in so many conversations."""
    worst = tuple(Branch(hub="choice", to=f"way{i}", conversations=of, failures=hits) for i, (hits, of) in enumerate(branches))
    return decided(branches=worst, judged=among)


def test_a_branch_that_surely_fails_blocks_although_the_whole_looks_well() -> None:
    verdict = judged((25, 40))
    assert verdict.result == "Fail"
    assert verdict.reasons == ("branch choice → way0: 25 of 40 conversations failed, above a ceiling of 40.0%",)


def test_a_branch_that_may_be_good_enough_does_not_block() -> None:
    assert judged((18, 40)).result == "Pass"  # 45 %, which 40 % may well look like


def test_a_rare_branch_blocks_as_soon_as_chance_cannot_explain_it() -> None:
    assert judged((12, 12), among=40).result == "Fail"
    verdict = judged((4, 6), among=14)
    assert verdict.result == "Pass"
    assert "advisory: branch choice → way0 failed in 4 of 6 conversations, too few to block" in verdict.reasons


def test_a_branch_above_the_ceiling_is_named_even_if_it_does_not_block() -> None:
    assert "advisory: branch choice → way0 failed in 25 of 50 conversations, too few to block" in judged((25, 50)).reasons


def test_the_more_branches_were_looked_at_the_surer_one_must_fail() -> None:
    assert judged((23, 40), among=1).result == "Fail"
    assert judged((23, 40), among=20).result == "Pass"


def test_every_branch_that_blocks_is_told_the_worst_first() -> None:
    assert [reason.partition(":")[0] for reason in judged((30, 40), (38, 40), (3, 40), among=3).reasons] == [
        "branch choice → way1",
        "branch choice → way0",
    ]


@pytest.mark.parametrize(("hits", "of", "rate"), [(0, 30, 0.4), (20, 30, 0.4), (30, 30, 0.4), (5, 300, 0.01)])
def test_the_tail_of_a_binomial_is_exact(hits: int, of: int, rate: float) -> None:
    exact = math.fsum(math.comb(of, k) * rate**k * (1 - rate) ** (of - k) for k in range(hits, of + 1))
    assert binomial_tail(hits, of, rate) == pytest.approx(exact, rel=1e-9)


def test_thousands_of_conversations_are_no_trouble() -> None:
    assert binomial_tail(2000, 5000, 0.4) == pytest.approx(0.5, abs=0.02)


def test_a_small_procedure_whose_customers_had_to_be_played_again_can_pass() -> None:
    """It has no other customers; the bounds count each of them once."""
    played = statistics(n=75).model_copy(update={"repeated": 125})
    small = scores().model_copy(update={"scenarios": 200, "planned": 200, "statistics": played})
    assert judge(small, POLICY).result == "Pass"


NO_CRITERION = "no criterion was judged: each needs 30 conversations, and none has more than 0; raise evaluation.scenarios"


def test_statistics_without_a_criterion_are_inconclusive() -> None:
    empty = scores().model_copy(update={"statistics": statistics().model_copy(update={"criteria": {}})})
    verdict = judge(empty, POLICY)
    assert (verdict.result, verdict.reasons) == ("Inconclusive", (NO_CRITERION,))


def test_counts_of_nothing_are_inconclusive_and_no_reason_to_give_up() -> None:
    nothing = Proportion(hits=0, of=0)
    empty = statistics().model_copy(update={"criteria": {}, "failures": nothing, "conformance": nothing})
    verdict = judge(scores().model_copy(update={"statistics": empty}), POLICY)
    assert verdict.result == "Inconclusive"
    assert "failures or conformance were counted in no conversation; evaluate again" in verdict.reasons
    assert not futile(empty, POLICY)


def left_out(count: int) -> Verdict:
    """The verdict on an equal candidate when so many of 300 conversations are left out."""
    return judge(scores(compared(n=300 - count), n=300 - count).model_copy(update={"scenarios": 300}), POLICY)


def test_conversations_that_are_left_out_are_named_and_too_many_are_inconclusive() -> None:
    assert left_out(3).result == "Pass"
    assert "advisory: 3 of 300 conversations are left out, because the simulated customer left early" in left_out(3).reasons
    assert left_out(61).result == "Inconclusive"
    assert "at most 20% may be; choose another model for evaluation.simulator" in left_out(61).reasons[0]
    assert left_out(201).reasons[0].startswith("only 99 conversations count, but a promotion needs at least 100")
