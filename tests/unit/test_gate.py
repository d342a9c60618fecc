"""The gate: the bound decides, not the mean."""

import pytest

from subterra_api.gate import judge
from subterra_api.v1alpha1.compilerun import GatePolicy, Interval, Scores


def scores(*, scenarios: int = 100, conformance: tuple[float, float, float] = (0.95, 0.9, 0.98),
           failures: tuple[float, float, float] = (0.05, 0.02, 0.1), **criteria: tuple[float, float, float]) -> Scores:  # fmt: skip
    def interval(values: tuple[float, float, float]) -> Interval:
        return Interval(mean=values[0], low=values[1], high=values[2])

    scored = {"taskSuccess": (4.5, 4.3, 4.7)} | criteria
    return Scores(
        scenarios=scenarios, criteria={name: interval(value) for name, value in scored.items()},
        failure_rate=interval(failures), conformance=interval(conformance), turns_per_conversation=6,
    )  # fmt: skip


def test_a_candidate_that_clears_every_floor_passes() -> None:
    verdict = judge(scores(), GatePolicy())
    assert (verdict.result, verdict.reasons) == ("Pass", ("all 3 checks passed on 100 scenarios",))


@pytest.mark.parametrize(
    ("interval", "result"),
    [
        ((3.6, 3.5, 3.7), "Pass"),
        ((3.6, 3.49, 3.7), "Inconclusive"),
        ((3.4, 3.3, 3.5), "Inconclusive"),
        ((3.4, 3.3, 3.49), "Fail"),
    ],
)
def test_an_interval_across_the_floor_decides_nothing(interval: tuple[float, float, float], result: str) -> None:
    verdict = judge(scores(naturalness=interval), GatePolicy())
    assert verdict.result == result
    assert result == "Pass" or verdict.reasons[0].startswith(f"naturalness: mean {interval[0]:.2f}")


def test_too_many_failures_fail_whatever_the_scores_are() -> None:
    verdict = judge(scores(failures=(0.4, 0.3, 0.5)), GatePolicy())
    assert verdict.result == "Fail"
    assert verdict.reasons == ("failureRate: 40.0% (95 % interval 30.0% to 50.0%) against a ceiling of 20.0%",)


def test_failures_are_held_against_their_upper_bound() -> None:
    assert judge(scores(failures=(0.1, 0.05, 0.2)), GatePolicy()).result == "Pass"
    assert judge(scores(failures=(0.1, 0.05, 0.21)), GatePolicy()).result == "Inconclusive"


def test_low_conformance_fails_and_names_the_floor() -> None:
    verdict = judge(scores(conformance=(0.5, 0.4, 0.6)), GatePolicy())
    assert verdict.result == "Fail"
    assert "against a floor of 80.0%" in verdict.reasons[0]


def test_a_failure_outweighs_an_open_question() -> None:
    verdict = judge(scores(naturalness=(3.6, 3.4, 3.8), conformance=(0.5, 0.4, 0.6)), GatePolicy())
    assert verdict.result == "Fail"
    assert len(verdict.reasons) == 2


def test_few_scenarios_are_inconclusive_and_say_what_to_do() -> None:
    verdict = judge(scores(scenarios=49), GatePolicy())
    assert verdict.result == "Inconclusive"
    assert verdict.reasons[0].endswith("raise evaluation.scenarios")


def test_few_scenarios_that_clearly_fail_still_fail() -> None:
    assert judge(scores(scenarios=10, conformance=(0.1, 0, 0.3)), GatePolicy()).result == "Fail"


def test_reasons_have_an_order_that_does_not_depend_on_that_of_the_criteria() -> None:
    low = (2.0, 1.9, 2.1)
    first = judge(scores(naturalness=low, consistency=low), GatePolicy())
    assert first == judge(scores(consistency=low, naturalness=low), GatePolicy())
