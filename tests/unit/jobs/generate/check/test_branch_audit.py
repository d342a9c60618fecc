"""The blind reader: what words do not tell stops the stage before it costs more."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.lint.analyse import analyse
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.check.branch_audit import audit_branches, require_decidable
from subterra_jobs.generate.dataset import write_dataset
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.pilot import PILOT_SIZE, BranchDecision, customer_decisions
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.prompts import Prompts, parse_choice
from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher
from subterra_jobs.generate.write.writer import Writer
from subterra_jobs.generate.written_conversation import Conversation
from subterra_testkit.procedures import after, agent, alike, branch, end, procedure, shop, user
from subterra_testkit.runs.generation_inputs import example, run_input

GENERATION = Generation(teacher=Provider(), conversations=200, seeds=(42,), held_out_percent=10)


async def piloted(spec: ProcedureSpec) -> list[Conversation]:
    graph = Graph(spec)
    writer = Writer(graph, ScriptedTeacher(graph))
    return [await writer.finish(Conversation(planned)) for planned in plan_conversations(spec, GENERATION) if planned.audited]


@pytest.mark.parametrize("name", ["travel", "zoom", "insurance"])
async def test_the_examples_are_read_right(name: str) -> None:
    found = audit_branches(await piloted(example(name)))
    require_decidable(Graph(example(name)), found)
    assert found.conversations == PILOT_SIZE
    assert found.hubs[0].share >= 0.95


async def test_branches_that_read_alike_are_named_with_both_texts_and_the_cure() -> None:
    assert analyse(alike()).errors == ()
    found = audit_branches(await piloted(alike()))
    confused = 'hub ask: .* "The customer means refund.*" is read as "The customer means sell.*Reword'
    with pytest.raises(InvalidInputError, match=confused) as told:
        require_decidable(Graph(alike()), found)
    assert f"{found.hubs[0].right} of {found.hubs[0].readings} cases" in str(told.value)
    assert 0.3 < found.hubs[0].share < 0.7


async def test_a_single_slip_stops_nothing() -> None:
    read = await piloted(shop(branch("sell", "I want it."), branch("refund", "Take it back.")))
    few = [replace(each, guesses=("sell",)) for each in read if each.spec.path[-1] == "refund"][:1]
    found = audit_branches([*few, *[each for each in read if each.spec.path[-1] == "sell"][:3]])
    assert found.hubs[0].share == 0.75
    require_decidable(Graph(shop(branch("sell"), branch("refund"))), found)


async def test_the_artifact_names_agreement_and_the_confused_pair(tmp_path: Path) -> None:
    read = await piloted(alike())
    outcome = write_dataset(Graph(alike()), read, audit_branches(read), tmp_path)
    written = json.loads((tmp_path / "audit.json").read_text())["hubs"][0]
    assert written["hub"] == "ask"
    assert written["confused"]["when"] == "The customer means refund."
    assert written["confused"]["readAsWhen"] == "The customer means sell."
    assert "branch audit: " in outcome.message


def test_the_pilot_has_every_branch_about_equally_often() -> None:
    graph = Graph(example("insurance"))
    plan = [planned for planned in plan_conversations(graph.spec, GENERATION) if planned.audited]
    hubs = [node for node in graph.spec.nodes if node.decided_by == "customer" and len(node.next) > 1]
    assert len(plan) == PILOT_SIZE
    for node in hubs:
        for edge in node.next:
            assert sum((node.id, edge.to) in pairwise(planned.path) for planned in plan) >= 3


def test_only_what_words_decide_is_asked_and_only_what_is_open_is_an_option() -> None:
    graph = Graph(
        procedure(
            agent("hello", "ask"),
            user("ask", "again", "bye", maxVisits=3),
            agent("again", "ask", maxVisits=2),
            user("never", after("bye", "ask", "bye"), "again"),
            end(),
        )
    )
    asked = customer_decisions(graph, ("hello", "ask", "again", "ask", "again", "ask", "bye"))
    assert asked == (BranchDecision(1, ("again", "bye")), BranchDecision(3, ("again", "bye")))
    facts = Graph(example("zoom"))
    hubs = {path[each.position] for path in list(facts.paths())[:50] for each in customer_decisions(facts, path)}
    assert hubs
    assert all(facts.nodes[hub].decided_by == "customer" for hub in hubs)


async def test_the_reader_sees_nothing_that_comes_after_the_decision() -> None:
    graph = Graph(example("travel"))
    planned = next(planned for planned in plan_conversations(graph.spec, GENERATION) if planned.audited and len(planned.path) > 10)
    read = await Writer(graph, ScriptedTeacher(graph)).finish(Conversation(planned))
    decision = planned.audited[0]
    request = Prompts(graph).branch_reading(planned, decision, read.utterances[: decision.position + 1])
    assert read.utterances[decision.position].text in request.messages[0]["content"]
    assert all(f": {said.text}" not in request.messages[0]["content"] for said in read.utterances[decision.position + 1 :])
    assert all(f"{number}. " in request.messages[0]["content"] for number in range(1, len(decision.options) + 1))


@pytest.mark.parametrize(("answer", "option"), [("2", "b"), ("Option 1.", "a"), ("0", ""), ("3", ""), ("I cannot tell", "")])
def test_a_model_names_its_guess_by_number(answer: str, option: str) -> None:
    assert parse_choice(BranchDecision(0, ("a", "b")), answer) == option


def test_who_asks_for_what_is_the_default_gets_the_same_dataset_and_who_skips_the_audit_another(tmp_path: Path) -> None:
    keys = [run_input(tmp_path, alike(), **given).keys.dataset for given in ({}, {"audit": "Enforce"}, {"audit": "Report"})]
    assert keys[0] == keys[1] != keys[2]


def test_slots_outside_of_the_pilot_are_not_read() -> None:
    plan: list[ConversationSpec] = plan_conversations(example("travel"), GENERATION)
    assert sum(bool(planned.audited) for planned in plan) == PILOT_SIZE
