"""Requests of procedures with a `style`, and that those without one are word for word what was paid for."""

import hashlib
import json
from functools import cache

import pytest

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec, Style
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.detours import Detour
from subterra_jobs.dialogue.dummy import dummy_utterances
from subterra_jobs.dialogue.scripted import Utterance
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.prompts import Prompts
from subterra_jobs.generate.write.styled_prompts import StyledPrompts, prompts_for
from subterra_jobs.llm.client import Request
from subterra_testkit.runs.generation_inputs import example, travel

RECORDED = "f656eaaf639da614f5596a7b50737bdbe5f1fb1b411edfce2ced7df78c7e55f7"
"""Digest of all requests for 100 conversations of the travel example, made before procedures had a `style`. Must never change."""


def plan_of(spec: ProcedureSpec, count: int) -> list[ConversationSpec]:
    teacher = Provider(name="anthropic", model="m")
    return plan_conversations(spec, Generation(teacher=teacher, conversations=count, seeds=(42,), held_out_percent=10))


@cache
def styled(name: str = "insurance", **style: str) -> tuple[Graph, StyledPrompts, tuple[ConversationSpec, ...]]:
    spec = example(name).model_copy(update={"style": Style.model_validate(style)})
    prompts = prompts_for(Graph(spec))
    assert isinstance(prompts, StyledPrompts)
    return Graph(spec), prompts, tuple(plan_of(spec, 150))


def said(graph: Graph, planned: ConversationSpec, upto: int) -> list[Utterance]:
    return [dummy_utterances(graph, planned.path, planned.values_at(position), 0)[position] for position in range(upto)]


def asked(request: Request) -> str:
    return request.messages[0]["content"]


def with_challenge(kind: str) -> tuple[ConversationSpec, int]:
    """A conversation outside the pilot with such a challenge, and its place."""
    for planned in styled()[2]:
        challenge = planned.customer.challenge
        if challenge is not None and challenge.kind == kind and not planned.audited:
            return planned, challenge.position
    raise AssertionError(kind)


def test_without_a_style_requests_are_the_recorded_ones() -> None:
    graph, digest = Graph(travel()), hashlib.sha256()
    prompts = prompts_for(graph)
    assert type(prompts) is Prompts
    for planned in plan_of(travel(), 100):
        utterances = dummy_utterances(graph, planned.path, planned.values, 0)
        requests = [prompts.turn(planned, position, utterances[:position]) for position in range(len(utterances))]
        requests += [prompts.branch_reading(planned, each, utterances[: each.position + 1]) for each in planned.audited]
        for request in requests:
            messages = [dict(message) for message in request.messages]
            digest.update(json.dumps([planned.id, request.system, messages]).encode())
    assert digest.hexdigest() == RECORDED


def test_length_and_register_are_part_of_every_request_of_the_agent() -> None:
    systems = set()
    for style in ({"turnLength": "short"}, {"turnLength": "long"}, {"register": "formal"}, {"register": "casual"}, {}):
        _, prompts, plan = styled("zoom", **style)
        systems.add(prompts.turn(plan[0], 0, []).system)
    assert len(systems) == 5
    assert any("60 to 150 words" in system for system in systems)
    assert any("no contractions" in system for system in systems)


def test_the_constant_part_has_the_same_bytes_in_every_request_and_holds_the_knowledge() -> None:
    graph, prompts, plan = styled("zoom")
    roles = [(planned, position) for planned in plan[:5] for position in range(len(planned.path))]
    systems = {(graph.nodes[each.path[at]].role, prompts.turn(each, at, said(graph, each, at)).system) for each, at in roles}
    assert len(systems) == 2
    agent = next(system for role, system in systems if role == "agent")
    assert all(f"- {fact.text}" in agent for fact in graph.spec.knowledge)


def test_a_customer_is_told_only_what_the_path_is_about() -> None:
    """Who reports a theft holds no medical bill."""
    graph, prompts, plan = styled()
    thefts = [planned for planned in plan if "stolen" in planned.path]
    assert thefts
    for planned in thefts:
        position = planned.path.index("stolen")
        words = asked(prompts.turn(planned, position, said(graph, planned, position)))
        assert f"- item: {planned.values['item']}" in words
        assert "- bill:" not in words
        assert "- treatment:" not in words


def test_before_a_change_of_mind_every_prompt_has_the_other_value_and_after_it_the_new_one() -> None:
    graph, prompts, _ = styled()
    planned, place = with_challenge("change of mind")
    challenge = planned.customer.challenge
    assert challenge is not None
    for position, node in enumerate(planned.path):
        instruction = asked(prompts.turn(planned, position, said(graph, planned, position))).partition("<instruction>")[2]
        values = planned.values if position >= place else planned.values | {challenge.about: challenge.other}
        assert render(graph.nodes[node].prompt, values) in instruction
    told = asked(prompts.turn(planned, place, said(graph, planned, place)))
    assert f"{challenge.about} is {planned.values[challenge.about]} now, and no longer {challenge.other}" in told


@pytest.mark.parametrize("kind", ["ambiguity", "contradiction"])
def test_the_exchange_before_a_challenge_is_asked_for_without_the_decision_and_then_stands_in_the_conversation(kind: str) -> None:
    graph, prompts, _ = styled()
    planned, place = with_challenge(kind)
    before = said(graph, planned, place)
    customer, agent = prompts.aside(planned, place, before, None), prompts.aside(planned, place, before, "It is the other one.")
    assert "<decision>" not in asked(customer)
    assert "<now>" in asked(customer)
    assert "Customer: It is the other one.\n</conversation>" in asked(agent)
    assert "Decide nothing yet." in asked(agent)
    exchange = Detour("ambiguity" if kind == "ambiguity" else "contradiction", 0, "It is the other one.", "Which one?")
    turn = asked(prompts.turn(planned, place, before, exchange))
    assert "Customer: It is the other one.\nAgent: Which one?\n</conversation>" in turn
    assert "You were asked" in turn


def test_the_agent_never_sees_persona_decision_or_what_is_to_come() -> None:
    graph, prompts, plan = styled()
    for planned in plan[:30]:
        for position, node in enumerate(planned.path):
            if graph.nodes[node].role == "agent":
                words = asked(prompts.turn(planned, position, said(graph, planned, position)))
                assert not any(tag in words for tag in ("<you>", "<decision>", "<now>", "<situation>"))
