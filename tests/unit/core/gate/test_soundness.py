"""Numbers that no evaluation can produce never promote, and neither do floors that nothing can show or judges who guess."""

import math
from typing import Any

import pytest
from tests.unit.core.gate.test_verdict import CRITERIA, compared, decided, difference, scores

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import (
    Branch,
    DiscordantPairs,
    JudgeReliability,
    Proportion,
    SampleStats,
    Statistics,
    Verdict,
)
from subterra_core.gate.verdict import futile, judge


def changed(**update: Any) -> Verdict:
    """The verdict on an equal candidate with some statistics replaced."""
    found = scores(compared())
    assert found.statistics is not None
    return judge(found.model_copy(update={"statistics": found.statistics.model_copy(update=update)}), GatePolicy())


@pytest.mark.parametrize(
    "update",
    [
        {"missing": math.nan},
        {"failures": Proportion(hits=-1, of=300)},
        {"conformance": Proportion(hits=301, of=300)},
        {"criteria": dict.fromkeys(CRITERIA, SampleStats(count=300, mean=math.nan, sd=0.8))},
        {"criteria": dict.fromkeys(CRITERIA, SampleStats(count=300, mean=4.4, sd=-1))},
        {"criteria": dict.fromkeys(CRITERIA, SampleStats(count=300, mean=4.4, sd=math.inf))},
        {"comparisons": (compared(judges=(math.nan, 0.0)),)},
        {"comparisons": (compared(consistency=difference(sd=-0.1)),)},
        {"comparisons": (compared(failures=(200, 200)),)},
        {"comparisons": (compared().model_copy(update={"conformance": DiscordantPairs(worse=-1, better=0, of=300)}),)},
        {"judging": JudgeReliability(kappa=math.nan, disagreement=1)},
    ],
)
def test_impossible_numbers_are_inconclusive_and_named(update: dict[str, Any]) -> None:
    verdict = changed(**update)
    assert verdict.result == "Inconclusive"
    assert verdict.reasons[0].startswith("the scores are not those of an evaluation (")


def test_impossible_counts_of_a_branch_or_of_values_are_inconclusive() -> None:
    assert decided(branches=(Branch(hub="a", to="b", conversations=0, failures=1),)).result == "Inconclusive"
    strange = scores().model_copy(update={"fabrication": Proportion(hits=2, of=1)})
    assert judge(strange, GatePolicy()).result == "Inconclusive"


def test_a_comparison_of_no_scenario_is_no_error() -> None:
    nothing = compared().model_copy(update={"failures": DiscordantPairs(worse=0, better=0, of=0)})
    assert decided(nothing).result == "Pass"
    assert decided(branches=(Branch(hub="a", to="b", conversations=0, failures=0),)).result == "Pass"


def test_impossible_numbers_are_no_reason_to_give_up() -> None:
    broken = Statistics(
        criteria={"taskSuccess": SampleStats(count=100, mean=1, sd=math.nan)},
        failures=Proportion(hits=100, of=100),
        conformance=Proportion(hits=0, of=100),
    )
    assert not futile(broken, GatePolicy())


@pytest.mark.parametrize("n", [100, 200, 300, 500, 1000, 5000])
@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (GatePolicy(max_failure_rate=0), "maxFailureRate"),
        (GatePolicy(min_conformance=1), "minConformance"),
        (GatePolicy(min_score=5), "minScore"),
    ],
)
def test_a_floor_that_nothing_can_show_is_named_and_fails_no_faultless_candidate(n: int, policy: GatePolicy, field: str) -> None:
    perfect = dict.fromkeys(CRITERIA, SampleStats(count=n, mean=5, sd=0))
    verdict = decided(n=n, failures=0, conformant=n, policy=policy, **perfect)
    assert verdict.result == "Inconclusive"
    assert verdict.reasons[0].endswith(f"no number of scenarios can show that; change gate.{field}")


def test_criteria_with_hardly_a_value_are_no_criteria() -> None:
    verdict = changed(criteria=dict.fromkeys(CRITERIA, SampleStats(count=5, mean=5, sd=0)), comparisons=())
    assert verdict.result == "Inconclusive"


def test_judges_who_agree_too_little_are_inconclusive() -> None:
    verdict = changed(judging=JudgeReliability(kappa=0.2, disagreement=1.4))
    assert verdict.result == "Inconclusive"
    assert "a kappa of 0.20, but at least 0.40 is needed; choose other judges" in verdict.reasons[0]
    assert changed(judging=JudgeReliability(kappa=0.7, disagreement=0.6)).result == "Pass"


def test_judges_whose_scores_hardly_differ_agree_whatever_kappa_is() -> None:
    assert changed(judging=JudgeReliability(kappa=0.0, disagreement=0.2)).result == "Pass"


def test_a_judge_who_contradicts_itself_is_inconclusive() -> None:
    verdict = changed(judging=JudgeReliability(repeat_sd=(0.3, 1.1)))
    assert verdict.result == "Inconclusive"
    assert verdict.reasons[0].startswith("judge 2 scores the same conversation differently: a standard deviation of 1.10")


def test_equal_customers_that_count_once_are_not_left_out() -> None:
    found = scores(compared(n=200), n=200).model_copy(update={"scenarios": 300})
    assert found.statistics is not None
    verdict = judge(found.model_copy(update={"statistics": found.statistics.model_copy(update={"repeated": 100})}), GatePolicy())
    assert verdict.result == "Pass"
    assert "advisory: 100 of 300 customers are repetitions; equal customers count as one" in verdict.reasons
