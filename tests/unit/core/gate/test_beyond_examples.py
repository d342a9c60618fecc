"""The gate on what conforming customers do not show: made-up values, other words, unlisted values."""

from typing import Any

import pytest

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import (
    Interval,
    Proportion,
    RobustnessKind,
    RobustnessScore,
    SampleStats,
    Scores,
    Statistics,
    ToolScores,
    TrialScores,
    Verdict,
)
from subterra_core.gate.verdict import judge

UNREAD = Interval(mean=0, low=0, high=0)
ADVISORY = "advisory: fabrication was not measured; evaluate again"


def scores(made_up: tuple[int, int] | None = (0, 1500), *, conformant: int = 297, **more: Any) -> Scores:
    statistics = Statistics(
        criteria={"taskSuccess": SampleStats(count=300, mean=4.8, sd=0.5)},
        failures=Proportion(hits=3, of=300),
        conformance=Proportion(hits=conformant, of=300),
    )
    return Scores(
        scenarios=300,
        criteria={},
        failure_rate=UNREAD,
        conformance=UNREAD,
        turns_per_conversation=6,
        fabrication=Proportion(hits=made_up[0], of=made_up[1]) if made_up else None,
        statistics=statistics,
        **more,
    )


def handled(kind: RobustnessKind, hits: int, of: int) -> dict[str, Any]:
    return {"robustness": (RobustnessScore(kind=kind, hits=hits, of=of),)}


def decided(*args: Any, policy: GatePolicy | None = None, attempt: int = 1, **more: Any) -> Verdict:
    return judge(scores(*args, **more), policy or GatePolicy(), attempt)


@pytest.mark.parametrize(("hits", "result"), [(0, "Pass"), (10, "Pass"), (30, "Inconclusive"), (60, "Fail")])
def test_made_up_values_decide_by_their_bounds(hits: int, result: str) -> None:
    assert decided((hits, 1500)).result == result


def test_a_candidate_that_makes_values_up_is_refused_with_counts_and_ceiling() -> None:
    [reason] = decided((150, 1500)).reasons
    assert reason.startswith("fabrication: 150 of 1500 values that the agent asserted came from nobody, 10.0% (interval 8.7%")
    assert reason.endswith("against a ceiling of 2.0%")


def test_too_few_values_without_a_fabricated_one_are_inconclusive_and_say_how_many_scenarios_would_decide() -> None:
    verdict = decided((0, 60))
    assert verdict.result == "Inconclusive"
    assert "about 2,589 scenarios would be needed" in verdict.reasons[0]


def test_hardly_any_value_is_not_judged_but_named() -> None:
    verdict = decided((1, 10))
    assert verdict.result == "Pass"
    assert verdict.reasons[1] == "advisory: fabrication was not judged, since the agent asserted only 10 values"


def test_a_report_of_an_earlier_version_gets_the_verdict_it_had_and_an_advisory() -> None:
    verdict = decided(None)
    assert verdict.result == "Pass"
    assert verdict.reasons == ("all 3 checks passed on 300 scenarios at a one-sided level of 0.04", ADVISORY)
    failed = decided(None, conformant=200)
    assert failed.result == "Fail"
    assert ADVISORY not in failed.reasons


@pytest.mark.parametrize(("hits", "result"), [(42, "Pass"), (30, "Inconclusive"), (20, "Fail")])
def test_words_of_no_training_conversation_have_a_floor(hits: int, result: str) -> None:
    verdict = decided(**handled("phrasings", hits, 42))
    assert verdict.result == result
    assert result != "Inconclusive" or verdict.reasons[0].endswith("or raise evaluation.scenarios, up to 400")


def test_many_attempts_leave_a_way_past_the_floor_of_other_words() -> None:
    assert decided((0, 30_000), attempt=9, conformant=300, **handled("phrasings", 55, 60)).result == "Pass"


def test_an_agent_that_confirms_another_value_for_every_unlisted_one_fails_with_the_fix() -> None:
    verdict = decided(**handled("unknownValues", 0, 30))
    assert verdict.result == "Fail"
    assert verdict.reasons == (
        "unknownValues: 0 of 30 handled: for a value outside a closed list the agent asserts another one; "
        "set open: true or add a branch",
    )


def test_an_agent_that_handles_every_other_unlisted_value_is_not_refused_for_it() -> None:
    assert decided(**handled("unknownValues", 12, 30)).reasons[1] == "advisory: unknownValues: only 12 of 30 handled"
    assert decided(**handled("unknownValues", 15, 30)).result == "Pass"


def test_a_kind_that_was_not_tested_is_an_advisory() -> None:
    verdict = decided(**handled("afterEnd", 0, 0))
    assert verdict.result == "Pass"
    assert verdict.reasons[1:] == ("advisory: afterEnd: not tested; the report has the reason",)


def test_an_agent_with_tools_that_fails_once_after_the_end_is_named_because_it_may_have_acted() -> None:
    tools = ToolScores(calls=Proportion(hits=30, of=30), unprescribed=0, invented_results=Proportion(hits=0, of=30))
    (advice,) = decided(tools=tools, **handled("afterEnd", 13, 14)).reasons[1:]
    assert advice.startswith("advisory: afterEnd: 1 of 14 not handled by an agent with tools; see in the report what it called")
    assert decided(tools=tools, **handled("afterEnd", 14, 14)).reasons[1:] == ()
    assert decided(**handled("afterEnd", 13, 14)).reasons[1:] == ()


def test_a_pass_over_scripted_words_says_what_it_covers() -> None:
    assert decided(covers="scripted customers").reasons[0].startswith("for scripted customers: all 4 checks passed")


def test_ceiling_and_floor_are_what_the_policy_says() -> None:
    lenient = GatePolicy(max_fabrication_rate=0.2, min_phrasings=0.2)
    assert decided((150, 1500), policy=lenient, **handled("phrasings", 20, 42)).result == "Pass"


def tried(passed_all: int, of: int = 100, trials: int = 4) -> dict[str, Any]:
    return {"trials": TrialScores(trials=trials, passed_all=passed_all, of=of, passed=min(of * trials, 3 * passed_all + of))}


@pytest.mark.parametrize(("passed_all", "result"), [(100, "Pass"), (75, "Pass"), (65, "Inconclusive"), (45, "Fail")])
def test_customers_with_whom_all_trials_passed_decide_by_their_bounds(passed_all: int, result: str) -> None:
    assert decided(**tried(passed_all)).result == result


def test_an_agent_that_succeeds_by_luck_is_refused_with_pass_hat_k_and_its_floor() -> None:
    [reason] = decided(**tried(45)).reasons
    assert reason.startswith("pass^4: 45.0% (interval ")
    assert reason.endswith("against a floor of 60.0%")


def test_what_too_few_customers_leave_open_comes_with_a_fix() -> None:
    [reason] = decided(**tried(14, of=20)).reasons
    assert reason.startswith("pass^4: 70.0%")
    assert reason.endswith("up to 100 of evaluation.scenarios are tried")


def test_the_floor_of_pass_hat_k_does_not_rise_with_every_attempt() -> None:
    fixed = {"maxFailureRate": 1, "minConformance": 0, "maxFabricationRate": 1, "minScore": 1}
    assert decided(**tried(75), attempt=9, policy=GatePolicy.model_validate(fixed)).result == "Pass"


def test_trials_that_could_not_be_played_are_an_advisory() -> None:
    assert "advisory: pass^4: not tested; the report has the reason" in decided(**tried(0, of=0)).reasons


def test_more_trials_passed_than_were_played_never_pass() -> None:
    verdict = decided(trials=TrialScores(trials=2, passed_all=50, of=50, passed=101))
    assert verdict.result == "Inconclusive"
    assert "conversations of pass^2: 101 of 100" in verdict.reasons[0]
