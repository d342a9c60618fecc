"""Conversations of the example with tools, and a served agent that has them: as prescribed, or damaged in one way."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from subterra_cli.files.lint_report import load_spec
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.scripted import CHAT_ROLE, chat_messages, scripted_utterances
from subterra_jobs.dialogue.tool_calls import ChatMessage, with_calls
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.agents import ServedAgent
from subterra_jobs.evaluate.simulate.tool_use import ToolBench
from subterra_jobs.evaluate.simulate.vllm_client import VLLMClient
from subterra_testkit.repository import ROOT

ORDERS = load_spec(ROOT / "examples/orders/procedure.yaml")
_PATH = ("greet", "number", "look_up", "tell", "after", "announce", "pay_back", "refunded")
_VALUES = {"order": "482193", "lookup": "ok", "state": "on its way", "day": "Friday", "total": "$88", "refund": "ok"}
Damage = Callable[[list[ChatMessage]], list[ChatMessage]]


def refund_conversation() -> list[ChatMessage]:
    """A refund, with its two calls; the first message is the system's."""
    graph = Graph(ORDERS)
    said = scripted_utterances(graph, _PATH, _VALUES, random.Random(1))
    turns = [["greet"], ["number"], ["look_up", "tell"], ["after"], ["announce", "pay_back", "refunded"]]
    return with_calls(graph, chat_messages(ORDERS.system_prompt, None, said), turns, _VALUES)[0]


def prescribed_messages(graph: Graph, scenario: Scenario) -> list[ChatMessage]:
    """The scenario's conversation as a client has it, without the system message."""
    said = scripted_utterances(graph, scenario.path, scenario.values, random.Random(scenario.id))
    turns: list[list[str]] = [] if scenario.opener is None else [[]]
    previous = None
    for utterance in said:
        if CHAT_ROLE[utterance.role] == previous:
            turns[-1].append(utterance.node)
        else:
            turns.append([utterance.node])
        previous = CHAT_ROLE[utterance.role]
    return with_calls(graph, chat_messages("", scenario.opener, said), turns, scenario.values)[0][1:]


def tool_agent(
    graph: Graph, scenario: Scenario, damage: Damage = lambda messages: messages, requests: list[dict[str, Any]] | None = None
) -> ServedAgent:
    """The agent; `requests` collects the bodies that it receives."""
    mine: Sequence[ChatMessage] = [each for each in damage(prescribed_messages(graph, scenario)) if each["role"] == "assistant"]

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if requests is not None:
            requests.append(body)
        said = sum(message["role"] == "assistant" for message in body["messages"])
        message = mine[said] if said < len(mine) else {"role": "assistant", "content": "Goodbye."}
        choice = {"message": message, "finish_reason": "tool_calls" if message.get("tool_calls") else "stop"}
        return httpx.Response(200, json={"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}})

    client = httpx.AsyncClient(base_url="http://agent", transport=httpx.MockTransport(answer))
    return ServedAgent(VLLMClient(client, "candidate", 400), "", bench=ToolBench(graph.spec))
