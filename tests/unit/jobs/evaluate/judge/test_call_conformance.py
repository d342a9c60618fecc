"""An agent with tools is conformant only if it calls what is prescribed, with what was said, and says what came back."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from subterra_api.digest import significant_fields
from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.files.lint_report import load_spec
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.detours import otherwise_kind
from subterra_jobs.evaluate.analysis.summary import tool_scores
from subterra_jobs.evaluate.judge.fabrication import ReplyReader
from subterra_jobs.evaluate.judge.handling import Handling, HandlingExaminer
from subterra_jobs.evaluate.judge.judges import examine_by_rules
from subterra_jobs.evaluate.judge.results import Result
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.simulation import simulate
from subterra_jobs.evaluate.simulate.user_simulator import ScriptedUser
from subterra_jobs.stage.cancellation import Cancellation
from subterra_testkit.repository import ROOT
from subterra_testkit.runs.tool_agent import Damage, tool_agent

GRAPH = Graph(load_spec(ROOT / "examples/orders/procedure.yaml"))
SETTINGS = Evaluation(simulator=Provider(), judge=Provider(), scenarios=40, seed=8)
SCENARIOS = build_scenarios(GRAPH, SETTINGS)
REFUNDED = next(each for each in SCENARIOS if each.path[-1] == "refunded" and each.opener is None)
Messages = list[dict[str, Any]]


def examined(scenario: Scenario = REFUNDED, damage: Damage = lambda messages: messages) -> Result:
    """The result of a conversation with an agent that goes wrong in this way."""
    agent = tool_agent(GRAPH, scenario, damage)
    conversation = asyncio.run(simulate(agent, ScriptedUser(scenario.lines), scenario, 9, Cancellation()))
    return examine_by_rules(GRAPH, RuleLabeller(GRAPH), scenario, conversation)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.path[-1]}-{scenario.id}")
def test_an_agent_that_does_what_is_prescribed_is_conformant(scenario: Scenario) -> None:
    result = examined(scenario)
    assert result.conformant, result.replay
    assert result.replay.calls.right == result.replay.calls.due == sum(GRAPH.nodes[n].role == "tool" for n in scenario.path)


def without_calls(messages: Messages) -> Messages:
    return [each for each in messages if not each.get("tool_calls")]


def with_arguments(change: Callable[[dict[str, Any]], dict[str, Any]], tool: str = "find_order") -> Damage:
    def damage(messages: Messages) -> Messages:
        for message in messages:
            for call in message.get("tool_calls") or ():
                if call["function"]["name"] == tool:
                    call["function"]["arguments"] = json.dumps(change(json.loads(call["function"]["arguments"])))
        return messages

    return damage


def renamed(messages: Messages) -> Messages:
    for message in messages:
        for call in message.get("tool_calls") or ():
            call["function"]["name"] = "refund_order"
    return messages


def called_twice(messages: Messages) -> Messages:
    first = next(index for index, each in enumerate(messages) if each.get("tool_calls"))
    return [*messages[: first + 1], messages[first], *messages[first + 1 :]]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (without_calls, "missing call"),
        (with_arguments(lambda given: {"order_number": given["order_number"][::-1]}), "wrong arguments"),
        (with_arguments(lambda given: {"order_number": int(given["order_number"])}), "wrong arguments"),
        (with_arguments(lambda given: given | {"amount": str(given["amount"])}, "refund_order"), "wrong arguments"),
        (with_arguments(lambda given: {**given, "note": "please"}), "wrong arguments"),
        (renamed, "wrong tool"),
        (called_twice, "unexpected call"),
    ],
)
def test_a_wrong_call_is_caught_and_named(damage: Damage, kind: str) -> None:
    result = examined(damage=damage)
    assert not result.conformant
    assert result.replay.calls.faults[0].kind == kind
    scores = tool_scores([result])
    assert scores is not None
    assert scores.calls.hits < scores.calls.of or scores.unprescribed


def after_the_end(*more: dict[str, Any]) -> Handling:
    """What is said of an agent that goes on with these messages when the customer does after the refund."""
    lines = (*REFUNDED.lines, "Ah, I got that wrong. My order number is 512333.")
    scenario = replace(REFUNDED, kind="afterEnd", lines=lines, detour_at=len(lines) - 1)
    agent = tool_agent(GRAPH, scenario, lambda messages: [*messages, *more])
    conversation = asyncio.run(simulate(agent, ScriptedUser(lines), scenario, 9, Cancellation()))
    return HandlingExaminer(GRAPH, ReplyReader(GRAPH), otherwise_kind).examine(scenario, conversation)


CLOSING = {"role": "assistant", "content": GRAPH.spec.otherwise.after_end[0]}


def test_who_acts_for_a_customer_after_the_end_has_not_handled_it_whatever_is_said() -> None:
    assert after_the_end(CLOSING).handled is True
    function = {"name": "refund_order", "arguments": '{"order_number": "512333", "amount": 512333}'}
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    acted = after_the_end(call, CLOSING)
    assert (acted.handled, acted.why[:22]) == (False, 'called refund_order {"')
    torn = {"role": "assistant", "content": 'One moment.\n<tool_call>\n{"name": "refund_order", "arguments": {"amount": 5 12}}'}
    assert after_the_end(torn).why == "wrote a call that nobody can read"


def test_a_call_that_the_scenario_does_not_have_returns_an_error_and_no_result() -> None:
    result = examined(damage=with_arguments(lambda given: {"order_number": "1"}))
    returned = [
        json.loads(part["content"])
        for turn in result.conversation.chat
        for part in turn.get("messages", ())
        if part["role"] == "tool"
    ]
    assert returned[0] == {"error": "invalid_arguments"}


def other_state(messages: Messages) -> Messages:
    """Says another place than the one that the tool returned."""
    state = REFUNDED.values["state"]
    other = next(value for value in ("being packed", "on its way") if value != state)
    return [
        each | {"content": str(each["content"]).replace(state, other)} if each["role"] == "assistant" else each for each in messages
    ]


@pytest.mark.parametrize("damage", [other_state, without_calls])
def test_a_result_that_no_tool_returned_is_a_failure_of_its_own(damage: Damage) -> None:
    result = examined(damage=damage)
    assert result.replay.results.invented
    assert not result.conformant
    scores = tool_scores([result])
    assert scores is not None and scores.invented_results.hits
    made_up = [each.variable for each in ReplyReader(GRAPH).assertions(result.scenario, result.conversation) if not each.given]
    assert "state" in made_up


def test_nothing_is_asked_of_an_agent_without_tools() -> None:
    spec = load_spec(ROOT / "examples/travel/procedure.yaml")
    assert tool_scores([]) is None
    assert not spec.tools


def test_the_history_of_a_request_has_calls_and_results_as_an_openai_client_sends_them() -> None:
    requests: list[dict[str, Any]] = []
    agent = tool_agent(GRAPH, REFUNDED, requests=requests)
    asyncio.run(simulate(agent, ScriptedUser(REFUNDED.lines), REFUNDED, 9, Cancellation()))
    last = requests[-1]
    assert [each["function"]["name"] for each in last["tools"]] == ["find_order", "refund_order"]
    roles = [each["role"] for each in last["messages"]]
    assert roles == ["assistant", "user", "assistant", "tool", "assistant", "user", "assistant", "tool"]
    assert [each["tool_call_id"] for each in last["messages"] if each["role"] == "tool"] == ["call_1", "call_2"]
    assert not any("⟦" in str(each.get("content")) or "messages" in each for each in last["messages"])


def test_a_reply_with_many_calls_is_recognized_whole() -> None:
    names = ("announce", "pay_back", "look_up", "tell")
    content = significant_fields(GRAPH.spec)
    nodes = {each["id"]: each for each in content["nodes"]}
    nodes["pay_back"] |= {"decidedBy": "customer", "fact": None, "next": [{"to": "look_up"}]}
    nodes["tell"]["next"] = [{"to": "goodbye"}]
    labeller = RuleLabeller(Graph(ProcedureSpec.model_validate(content)))
    text = "I will ask for a refund of $9 right away. ⟦refund_order⟧ ⟦find_order⟧ Order 1 is on its way and arrives on Friday. "
    [label] = labeller.label(f"{text}Is there anything else? You are welcome. Goodbye!")
    assert label.nodes == (*names, "goodbye")
