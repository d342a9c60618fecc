"""After an edit: what can be compared is compared everywhere, the rest with margins that leave an equal candidate its chance."""

import math

import pytest
from tests.unit.core.gate.test_verdict import CRITERIA, difference, scores

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_api.v1alpha1.scores import (
    AffectedScenarios,
    Comparison,
    Difference,
    DiscordantPairs,
    Proportion,
    SampleStats,
    Verdict,
)
from subterra_core.gate.comparison_checks import widening
from subterra_core.gate.verdict import judge

POLICY = GatePolicy()


def edited(untouched: int, *, n: int = 300, task: float = 0.0, **other: Difference) -> Comparison:
    """A comparison with so many scenarios that the edit does not affect."""
    needs = {name: difference(task, n=untouched) for name in ("taskSuccess", "informationAccuracy") if untouched}
    free = {name: difference(n=n) for name in ("consistency", "gracefulHandling", "naturalness")}
    few = round(untouched / 20)
    pairs = DiscordantPairs(worse=few, better=few, of=untouched)
    return Comparison(against="serving", criteria=needs | free | other, failures=pairs, conformance=pairs, scenarios=n, common=n)


def after(comparison: Comparison, affected: AffectedScenarios | None = None, policy: GatePolicy = POLICY) -> Verdict:
    found = scores(comparison)
    assert found.statistics is not None
    return judge(found.model_copy(update={"statistics": found.statistics.model_copy(update={"affected": affected})}), policy)


def affected(n: int, *, mean: float = 4.4, failures: float = 0.05, **in_context: Difference) -> AffectedScenarios:
    sample = SampleStats(count=n, mean=mean, sd=0.8)
    return AffectedScenarios(
        criteria={"taskSuccess": sample, "informationAccuracy": sample},
        failures=Proportion(hits=round(failures * n), of=n),
        conformance=Proportion(hits=round(0.95 * n), of=n),
        in_context=in_context,
    )


@pytest.mark.parametrize("untouched", [0, 10, 29, 150, 300])
@pytest.mark.parametrize("criterion", ["consistency", "gracefulHandling", "naturalness"])
def test_a_loss_on_what_needs_no_procedure_is_seen_whatever_the_edit_affects(untouched: int, criterion: str) -> None:
    assert after(edited(untouched, **{criterion: difference(-0.5)})).result == "Fail"


@pytest.mark.parametrize("untouched", [0, 8, 12, 29, 31, 110, 200, 300])
def test_an_equal_candidate_passes_whatever_the_edit_affects(untouched: int) -> None:
    assert after(edited(untouched)).result == "Pass"


def test_margins_widen_as_the_spread_does_and_the_comparison_fades_out_below_sixty() -> None:
    assert widening(300, 300) == 1
    assert widening(75, 300) == 2
    assert widening(15, 300) == pytest.approx(4 * math.sqrt(20))
    assert widening(30, None) == 1


def test_a_loss_beyond_the_wider_margin_fails() -> None:
    assert after(edited(110, task=-0.8)).result == "Fail"


def test_the_verdict_says_which_scenarios_decided_what() -> None:
    assert after(edited(110)).reasons[1] == (
        "against serving: what needs the procedure decided on 110 of 300 scenarios, with margins 1.65 times as wide, and the "
        "floors on the rest; Consistency, Graceful Handling, Naturalness decided on 300"
    )
    assert after(edited(0)).reasons[1] == (
        "advisory: only 0 scenarios can be compared with serving; Consistency, Graceful Handling, Naturalness decided on 300, the "
        "floors the rest"
    )


def test_floors_hold_where_the_edit_applies() -> None:
    assert after(edited(110), affected(190)).result == "Pass"
    verdict = after(edited(110), affected(190, mean=3.2))
    assert verdict.result == "Fail"
    assert verdict.reasons[0].startswith("informationAccuracy where the edit applies: mean 3.20")
    assert after(edited(110), affected(190, failures=0.2)).result == "Inconclusive"


def test_a_few_affected_scenarios_can_fail_a_candidate_and_leave_none_open() -> None:
    assert after(edited(260), affected(40, failures=0.2)).result == "Pass"
    assert after(edited(260), affected(40, failures=0.6)).result == "Fail"


def test_a_clear_loss_against_the_baseline_fails_where_nothing_else_can_be_compared() -> None:
    assert after(edited(110), affected(190, taskSuccess=difference(-0.3, n=190))).result == "Pass"
    verdict = after(edited(110), affected(190, taskSuccess=difference(-0.6, n=190)))
    assert verdict.result == "Fail"
    assert verdict.reasons[0].startswith("taskSuccess against in-context where the edit applies: mean -0.60")


def test_conformance_is_compared_with_what_serves() -> None:
    lost = edited(300).model_copy(update={"conformance": DiscordantPairs(worse=36, better=0, of=300)})
    verdict = after(lost)
    assert verdict.result == "Fail"
    assert verdict.reasons[0].startswith("conformance against serving: -12.0% ")
    assert after(lost, policy=GatePolicy(conformance_margin=0.2)).result == "Pass"


def test_a_criterion_that_was_not_compared_is_no_pass() -> None:
    some = edited(300)
    without = {name: some.criteria[name] for name in CRITERIA if name != "consistency"}
    verdict = after(some.model_copy(update={"criteria": without}))
    assert verdict.result == "Inconclusive"
    assert verdict.reasons == ("consistency against serving: it was not compared; evaluate again",)
