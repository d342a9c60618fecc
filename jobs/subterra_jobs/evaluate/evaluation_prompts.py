"""One filled prompt of each kind that models get in an evaluation of a procedure: customers, judges, labeller. Pure."""

import random
from collections.abc import Iterator

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.dummy import dummy_utterances
from subterra_jobs.dialogue.scripted import Utterance, chat_messages, scripted_utterances
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.judge.free_words.llm_labeller import labeller_system_prompt, labelling_request
from subterra_jobs.evaluate.judge.llm_judge import judge_system_prompt, judgement_request
from subterra_jobs.evaluate.judge.rubric import PARTS
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.user_simulator import customer_request
from subterra_jobs.llm.client import Request

_SCENARIOS = 24
"""Enough for one with each challenge."""
_PLAYER = Provider(name="openai", model="any")
EvaluationPrompt = tuple[str, str, Request]
"""Kind, scenario and request."""


def evaluation_prompts(graph: Graph, seed: int) -> list[EvaluationPrompt]:
    """The requests for one turn of a customer, of each challenge too, and for one conversation's scores and steps.

    What was said before are the procedure's own examples, where it has any. Raises InvalidInputError for one without a path.
    """
    settings = Evaluation(simulator=_PLAYER, judge=_PLAYER, second_judge=_PLAYER, scenarios=_SCENARIOS, seed=seed)
    scenarios = build_scenarios(graph, settings)
    chat = conversation_of(graph, scenarios[0])
    prompts = [*_customers(graph, scenarios)]
    for part in PARTS:
        kind = f"judge of {', '.join(criterion.title for criterion in part.criteria)}"
        prompts.append((kind, scenarios[0].id, judgement_request(part, judge_system_prompt(part, graph.spec), scenarios[0], chat)))
    prompts.append(("labeller", scenarios[0].id, labelling_request(labeller_system_prompt(graph.spec), chat)))
    return prompts


def conversation_of(graph: Graph, scenario: Scenario) -> list[dict[str, str]]:
    """A conversation along the scenario's path."""
    return chat_messages("", scenario.opener, _utterances(graph, scenario))[1:]


def _customers(graph: Graph, scenarios: list[Scenario]) -> Iterator[EvaluationPrompt]:
    """The first customer without a challenge, then the first with each, at the turn of the challenge."""
    known: set[str] = set()
    for scenario in sorted(scenarios, key=lambda each: each.challenge is not None):
        kind = f"simulated customer, {scenario.challenge.kind}" if scenario.challenge else "simulated customer"
        if kind in known:
            continue
        known.add(kind)
        chat = conversation_of(graph, scenario)
        turns = [index for index, message in enumerate(chat) if message["role"] == "user"]
        place = turns[min(scenario.challenge.turn if scenario.challenge else 1, len(turns) - 1)]
        yield kind, scenario.id, customer_request(graph.spec, scenario, chat[:place])


def _utterances(graph: Graph, scenario: Scenario) -> list[Utterance]:
    try:
        return scripted_utterances(graph, scenario.path, scenario.values, random.Random(scenario.id))
    except InvalidInputError:
        return dummy_utterances(graph, scenario.path, scenario.values, 0)
