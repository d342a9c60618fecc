"""pass^k counts customers with whom every trial passed."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from subterra_api.v1alpha1.scores import TrialScores
from subterra_jobs.evaluate.analysis.trial_summary import TrialResults, collect_trials, passed
from subterra_jobs.evaluate.judge.results import CRITERIA, Result
from subterra_jobs.evaluate.report.html import render_html
from subterra_jobs.evaluate.report.report import build_report
from subterra_jobs.evaluate.scenarios.repeated_trials import ONE_WORDING, TrialPlan, TriedCustomer
from subterra_jobs.evaluate.simulate.conversation import LEFT_EARLY, Conversation
from subterra_testkit.runs.reports import GRAPH, Sample, evaluated, judged_by_rules, scripted_conversation, single


@pytest.fixture(scope="module")
def sample() -> Sample:
    return single(40)


def trial(sample: Sample, index: int, fine: bool) -> Result:
    scenario = sample[1]["candidate"][index].scenario
    return judged_by_rules(scenario, scripted_conversation(scenario, "none" if fine else "garbled"))


def tried(sample: Sample, *customers: Sequence[bool]) -> TrialResults:
    results = (tuple(trial(sample, index, fine) for fine in trials) for index, trials in enumerate(customers))
    return TrialResults(len(customers[0]), tuple(results))


def test_a_customer_counts_only_if_all_trials_passed(sample: Sample) -> None:
    found = tried(sample, (True, True, True), (True, False, True), (False, False, False))
    assert found.scores() == TrialScores(trials=3, passed_all=1, of=3, passed=5)


def test_pass_hat_k_is_the_chance_that_k_trials_of_a_customer_all_pass(sample: Sample) -> None:
    rows = tried(sample, (True, True, True), (True, False, True), (False, False, False)).summary(7)["passHat"]
    assert [row["k"] for row in rows] == [1, 2, 3]
    assert [row["share"]["mean"] for row in rows] == pytest.approx([5 / 9, (1 + 1 / 3) / 3, 1 / 3])
    assert all(row["share"]["low"] <= row["share"]["mean"] <= row["share"]["high"] for row in rows)


def test_a_trial_with_a_low_task_success_did_not_pass_though_every_step_was_right(sample: Sample) -> None:
    result = trial(sample, 0, True)
    [judgement] = result.judgements
    assert judgement is not None
    assert passed(result)
    assert not passed(replace(result, judgements=(replace(judgement, scores=dict.fromkeys(CRITERIA, 3)),)))


def test_a_customer_who_left_early_in_one_trial_does_not_count(sample: Sample) -> None:
    found = tried(sample, (True, True), (True, True))
    first, second = found.customers[0]
    begun = second.conversation.chat[: 1 if second.scenario.agent_first else 2]
    gone = judged_by_rules(second.scenario, Conversation(begun, second.conversation.replies[:1], fault=LEFT_EARLY))
    assert gone.left_out
    found = replace(found, customers=((first, gone), *found.customers[1:]))
    assert found.scores() == TrialScores(trials=2, passed_all=1, of=1, passed=2)


def test_further_results_belong_to_the_customers_of_the_plan_in_order(sample: Sample) -> None:
    first = [trial(sample, index, True) for index in range(5)]
    further = [trial(sample, index, fine) for index, fine in ((3, True), (3, False), (1, True), (1, True))]
    plan = TrialPlan(3, tuple(TriedCustomer(index, (first[index].scenario,) * 2) for index in (3, 1)))
    found = collect_trials(plan, first, further, None)
    assert found.customers == ((first[3], *further[:2]), (first[1], *further[2:]))
    assert found.passes == [2, 3]


@pytest.mark.parametrize("reason", ["the evaluation ended early", None])
def test_what_was_not_tested_says_why(sample: Sample, reason: str | None) -> None:
    found = collect_trials(TrialPlan(3, (), ONE_WORDING), (), (), reason)
    assert found.scores() == TrialScores(trials=3, passed_all=0, of=0, passed=0)
    data = build_report(replace(evaluated(sample, {"run": "r"}), trials=found))
    assert data["trials"]["untested"] == (reason or ONE_WORDING)
    assert f"Not tested: {reason or ONE_WORDING}." in render_html(data, GRAPH, sample[1])


def test_the_report_names_customers_with_whom_only_some_trials_passed(sample: Sample) -> None:
    found = tried(sample, (True, True), (True, False), (False, False))
    data = build_report(replace(evaluated(sample, {"run": "r"}), trials=found))
    [row] = data["trials"]["mixed"]
    assert row["id"] == found.customers[1][0].scenario.id
    page = render_html(data, GRAPH, sample[1])
    assert "pass^2" in page
    assert "<td>yes, no</td>" in page


def test_a_report_with_one_trial_has_no_part_about_trials(sample: Sample) -> None:
    data = build_report(evaluated(sample, {"run": "r"}))
    assert data["trials"] is None
    assert "pass^" not in render_html(data, GRAPH, sample[1])
