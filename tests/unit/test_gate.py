"""The gate: the bound decides, not the mean."""

import math

import pytest

from subterra_api.gate import binomial_tail, judge
from subterra_api.v1alpha1.compilerun import Branch, GatePolicy, Interval, Scores, Verdict


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


def judged(*branches: tuple[int, int], among: int = 1) -> Verdict:
    """The verdict on fine scores with branches of so many failures in so many conversations."""
    worst = tuple(Branch(hub="choice", to=f"way{i}", conversations=of, failures=hits) for i, (hits, of) in enumerate(branches))
    return judge(scores().model_copy(update={"worst_branches": worst, "branches_judged": among}), GatePolicy())


def test_a_branch_that_surely_fails_blocks_although_the_whole_looks_well() -> None:
    verdict = judged((25, 40))
    assert verdict.result == "Fail"
    assert verdict.reasons == ("branch choice → way0: 25 of 40 conversations failed, above a ceiling of 40.0%",)


def test_a_branch_that_may_be_good_enough_does_not_block() -> None:
    assert judged((18, 40)).result == "Pass"  # 45 %, which 40 % may well look like


def test_a_branch_of_few_conversations_never_blocks() -> None:
    assert judged((29, 29)).result == "Pass"


def test_the_more_branches_were_looked_at_the_surer_one_must_fail() -> None:
    assert judged((23, 40), among=1).result == "Fail"
    assert judged((23, 40), among=20).result == "Pass"


def test_every_branch_that_blocks_is_told_the_worst_first() -> None:
    assert [reason.partition(":")[0] for reason in judged((30, 40), (38, 40), (3, 40), among=3).reasons] == [
        "branch choice → way1", "branch choice → way0",
    ]  # fmt: skip


@pytest.mark.parametrize(("hits", "of", "rate"), [(0, 30, 0.4), (20, 30, 0.4), (30, 30, 0.4), (5, 300, 0.01)])
def test_the_tail_of_a_binomial_is_exact(hits: int, of: int, rate: float) -> None:
    exact = math.fsum(math.comb(of, k) * rate**k * (1 - rate) ** (of - k) for k in range(hits, of + 1))
    assert binomial_tail(hits, of, rate) == pytest.approx(exact, rel=1e-9)


def test_thousands_of_conversations_are_no_trouble() -> None:
    assert binomial_tail(2000, 5000, 0.4) == pytest.approx(0.5, abs=0.02)
