"""Where a fact decides, the scenario's value and the path agree, in training data and in evaluation, and the model is told."""

import random

import pytest

from subterra_api.job_contract.messages import Evaluation, Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.sampling import fit_values_to_path, sample_path, system_message
from subterra_jobs.dialogue.scripted import scripted_utterances
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.path_cover import uncovered_edges
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.writer import messages
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.train.model.chat_template import chat_template
from subterra_testkit.procedures import PLAN, agent, end, fact_hub, procedure, user, way

ENDING = {"Free": "sell", "Pro": "help", "Business": "help"}


def support(visibility: str = "context") -> ProcedureSpec:
    """A plan of three decides where a request ends."""
    said = "It crashes." if visibility == "context" else "It crashes, I have {{plan}}."
    return procedure(
        agent("hello", "ask", examples=["What is wrong?"]),
        user("ask", "check", examples=[said]),
        fact_hub("check", way("sell", "Free"), way("help"), examples=["I look at your plan."]),
        end("sell", examples=["Upgrade."]),
        end("help", examples=["I call you."]),
        variables=[PLAN | {"visibility": visibility}],
    )


def generation(conversations: int) -> Generation:
    return Generation(teacher=Provider(), conversations=conversations, seeds=(42,), held_out_percent=10)


@pytest.mark.parametrize("visibility", ["context", "customer"])
def test_every_planned_path_follows_from_its_values(visibility: str) -> None:
    plan = plan_conversations(support(visibility), generation(300))
    assert all(planned.path[-1] == ENDING[planned.values["plan"]] for planned in plan)
    assert {planned.values["plan"] for planned in plan} == set(ENDING)


def test_rare_values_get_their_share_of_endings_too() -> None:
    rare = PLAN | {"values": ["Free", *(f"Plan {number}" for number in range(60))]}
    spec = support().model_copy(update={"variables": procedure(agent("a"), end(), variables=[rare]).variables})
    endings = [planned.path[-1] for planned in plan_conversations(spec, generation(300)) if not planned.held_out]
    assert endings.count("sell") >= 0.09 * len(endings)


def test_every_scenario_follows_from_its_values() -> None:
    graph = Graph(support())
    cast = build_scenarios(graph, Evaluation(simulator=Provider(), judge=Provider(), scenarios=100, seed=7))
    assert all(scenario.path[-1] == ENDING[scenario.values["plan"]] for scenario in cast)
    assert uncovered_edges(graph, cast) == []


def test_a_fact_that_contradicts_the_path_is_drawn_again_and_others_stay() -> None:
    graph, rng = Graph(support()), random.Random(1)
    path = ("hello", "ask", "check", "sell")
    assert fit_values_to_path(graph, path, {"plan": "Pro", "name": "Ann"}, rng) == {"plan": "Free", "name": "Ann"}
    assert fit_values_to_path(graph, path, {"plan": "Free"}, rng) == {"plan": "Free"}


def test_the_values_of_a_fact_decide_how_often_a_branch_is_taken() -> None:
    graph, rng = Graph(support()), random.Random(1)
    endings = [sample_path(graph, rng)[-1] for _ in range(600)]
    assert 150 < endings.count("sell") < 250


def test_the_served_prompt_with_the_context_line_is_the_one_that_was_trained_on() -> None:
    jinja2 = pytest.importorskip("jinja2")
    spec = support()
    graph = Graph(spec)
    scenario = build_scenarios(graph, Evaluation(simulator=Provider(), judge=Provider(), scenarios=20, seed=7))[0]
    planned = next(
        planned
        for planned in plan_conversations(spec, generation(60))
        if planned.values == scenario.values and not planned.customer.opener
    )
    said = tuple(scripted_utterances(graph, planned.path, planned.values, random.Random(1)))
    trained = messages(graph, Conversation(planned, said))
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(chat_template(spec.system_prompt))
    told = [{"role": "system", "content": scenario.context}, *trained[1:]]
    assert template.render(messages=told) == template.render(messages=trained)
    assert system_message(spec, planned.values) in template.render(messages=told)
    assert scenario.context == f"plan: {planned.values['plan']}"
