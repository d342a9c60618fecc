"""Further trials are with the same customers in other words, and move nothing else."""

import pytest

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.scenarios.build import build_scenarios, rare_branch_scenarios
from subterra_jobs.evaluate.scenarios.repeated_trials import ONE_WORDING, TRIED, TrialPlan, plan_trials
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_testkit.procedures import agent, end, procedure, user
from subterra_testkit.runs.generation_inputs import travel

GRAPH = Graph(travel())
MODEL = Provider(name="anthropic", model="claude-sonnet-4-6")
MONOTONOUS = procedure(
    agent("hello", "who", examples=["Hello, who are you?"]),
    user("who", "bye", examples=["I am {{name}}."]),
    end("bye", examples=["Goodbye, {{name}}."]),
    variables=[{"name": "name", "values": ["Ann", "Ben"], "open": True}],
)


def settings(trials: int, scenarios: int = 40, simulator: Provider | None = None) -> Evaluation:
    return Evaluation(simulator=simulator or Provider(), judge=Provider(), scenarios=scenarios, seed=7, trials=trials)


def planned(graph: Graph, given: Evaluation) -> tuple[list[Scenario], TrialPlan]:
    scenarios = build_scenarios(graph, given)
    return scenarios, plan_trials(graph, given, scenarios)


def test_a_customer_keeps_path_and_values_and_finds_other_words_each_time() -> None:
    scenarios, plan = planned(GRAPH, settings(4))
    assert plan.customers
    for customer in plan.customers:
        first = scenarios[customer.first]
        trials = [first, *customer.further]
        assert len({trial.lines for trial in trials}) == 4
        assert {(trial.path, trial.opener, trial.context, trial.unseen) for trial in trials} == {
            (first.path, first.opener, first.context, first.unseen)
        }
        assert all(trial.values == first.values for trial in trials)


def test_no_trial_is_played_twice_and_none_is_another_scenario() -> None:
    scenarios, plan = planned(GRAPH, settings(4))
    ids = [scenario.id for scenario in (*scenarios, *plan.scenarios)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("simulator", [Provider(), MODEL], ids=["scripted", "model"])
def test_more_trials_leave_all_scenarios_as_they_are(simulator: Provider) -> None:
    once, often = settings(1, simulator=simulator), settings(4, simulator=simulator)
    scenarios = build_scenarios(GRAPH, once)
    assert build_scenarios(GRAPH, often) == scenarios
    assert rare_branch_scenarios(GRAPH, often, scenarios) == rare_branch_scenarios(GRAPH, once, scenarios)


def test_one_trial_plans_nothing() -> None:
    assert planned(GRAPH, settings(1))[1] == TrialPlan()


def test_a_hundred_customers_are_tried_at_most_and_the_seed_chooses_them() -> None:
    scenarios, plan = planned(GRAPH, settings(2, scenarios=150, simulator=MODEL))
    chosen = [customer.first for customer in plan.customers]
    assert len(set(chosen)) == TRIED
    assert chosen != sorted(chosen)
    assert plan_trials(GRAPH, settings(2, scenarios=150, simulator=MODEL), scenarios) == plan


def test_a_customer_played_by_a_model_is_asked_again_under_an_id_of_its_own() -> None:
    scenarios, plan = planned(GRAPH, settings(3, simulator=MODEL))
    customer = plan.customers[0]
    first = scenarios[customer.first]
    assert [trial.id for trial in customer.further] == [f"{first.id}-trial-2", f"{first.id}-trial-3"]
    assert all(trial.goals == first.goals and trial.profile == first.profile for trial in customer.further)


def test_customers_with_a_single_wording_are_not_tried_and_the_reason_is_given() -> None:
    plan = planned(Graph(MONOTONOUS), settings(2, scenarios=20))[1]
    assert plan == TrialPlan(2, (), ONE_WORDING)


def test_words_of_the_dataset_are_avoided_where_there_are_others() -> None:
    scenarios, plan = planned(GRAPH, settings(2))
    taken = frozenset(scenario.signature for scenario in plan.scenarios)
    again = plan_trials(GRAPH, settings(2), scenarios, taken)
    assert len(again.customers) == len(plan.customers)
    assert sum(scenario.signature in taken for scenario in again.scenarios) < len(again.scenarios) / 4
