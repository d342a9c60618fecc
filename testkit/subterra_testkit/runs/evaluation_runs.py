"""Parts of an evaluation for tests: run inputs, a client pool, and fake providers that play customer, agent and router."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import Budget, RunInput
from subterra_api.v1alpha1.compilerun import CompileInputs, Provider, Reference
from subterra_api.v1alpha1.procedure import Edge, Node, ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render, variables_of
from subterra_jobs.evaluate.judge.rule_labeller import Label, RuleLabeller
from subterra_jobs.evaluate.simulate.agents import AWAITING_GREETING
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs import judgements
from subterra_testkit.runs.generation_inputs import TRAVEL_1, travel
from subterra_testkit.servers.fake_chat_server import Oracle
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, chatter, fake_llm_api

SONNET = {"name": "anthropic", "model": "claude-sonnet-4-6"}
MODEL = Provider.model_validate(SONNET)


def run_input(
    store: Path, procedure: ProcedureSpec | None = None, *, references: tuple[Reference, ...] = (), **evaluation: Any
) -> RunInput:
    """A run of `procedure` with its artifacts under `store`; `evaluation` as in a CompileRun."""
    spec = procedure or travel()
    inputs = CompileInputs.model_validate(
        {"procedureRef": {"name": "travel"}, "evaluation": {"scenarios": 20, "simulator": SONNET} | evaluation}
    )
    return resolve(inputs, spec, procedure_digest(spec), TRAVEL_1, store=store.as_uri(), references=references)


def client_pool(folder: Path, budget: Budget | None = None) -> ClientPool:
    """Clients of an evaluation whose store is `folder`."""
    environment = replace(StageEnvironment.parse(os.environ), budget=budget or Budget())
    return ClientPool(ArtifactStore(folder.as_uri()), TRAVEL_1, "evaluate", environment, "work/answers")


@contextmanager
def fake_provider(api: FakeLLMApi | None = None) -> Iterator[FakeLLMApi]:
    """A provider that SDKs in this process and its children find; it answers `in_character` by default."""
    with fake_llm_api(api or FakeLLMApi(answer=in_character)) as served:
        keys = {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": served.url, "OPENAI_API_KEY": "sk-test"}
        with patch.dict(os.environ, keys):
            yield served


TURN = r"(?:\[\d+\] )?"
"""The number before the speaker of a turn, where a prompt has one."""


def last_message(body: dict[str, Any]) -> str:
    """The last message of a request."""
    return str(body["messages"][-1]["content"])


def role_of(body: dict[str, Any]) -> str:
    """The role the request is for: customer, router or agent."""
    system = judgements.system_of(body)
    if "You play a customer" in system:
        return "customer"
    return "router" if "numbered options" in system else "agent"


def in_character(body: dict[str, Any]) -> str:
    """A customer with a goal per turn, who then ends; a router that takes the first edge; an agent that says something."""
    if role_of(body) == "router":
        return json.dumps({"option": 1})
    if role_of(body) == "agent":
        return f"Certainly, {chatter(last_message(body))}."
    lines = re.findall(rf"^{TURN}(Agent|Customer): ", last_message(body), re.MULTILINE)
    said = lines.count("Customer") - (lines[:1] == ["Customer"])  # who speaks first says no wish yet
    wishes = re.findall(r"^\d+\. (.*)$", last_message(body), re.MULTILINE)
    return f"{wishes[said]} {chatter(last_message(body))}" if said < len(wishes) else "[END]"


class FaultlessProvider:
    """Plays every role of an evaluation without a mistake: customers express their goals in the procedure's own phrasings, agents
    follow the flowchart, routers and labellers know what was meant, and judges give 5 for phrasings they know.
    """

    def __init__(self, spec: ProcedureSpec) -> None:
        self._graph, self._oracle, self._labeller = Graph(spec), Oracle(spec), RuleLabeller(Graph(spec))
        self._openers = set(spec.openers)
        self.meant: dict[str, list[Edge | Node]] = {}
        """Edges and nodes that the customers' words can mean."""

    def __call__(self, body: dict[str, Any]) -> str:
        if judgements.is_judging(body):
            return judgements.judging_answer(body, lambda _, each: self._score(each))
        if judgements.is_labelling(body):
            return judgements.labelling_answer(body, {line: self._steps(who, line) for _, who, line in judgements.turns_of(body)})
        return {"customer": self._customer, "router": self._router, "agent": self._agent}[role_of(body)](body)

    def _customer(self, body: dict[str, Any]) -> str:
        said = [
            line for line in re.findall(rf"^{TURN}Customer: (.*)$", last_message(body), re.MULTILINE) if line not in self._openers
        ]
        wishes = re.findall(r"^\d+\. (.*)$", last_message(body), re.MULTILINE)
        if len(said) >= len(wishes):
            return "[END]"
        values = dict(re.findall(r"^- (\w+): (.*?)(?: \(.*\))?$", last_message(body), re.MULTILINE))
        found = next(each for each in self._own_words() if _rendered(_goal(each), values) == wishes[len(said)])
        words = _rendered(found.examples[0], values)
        self.meant[words] = [each for each in self._own_words() if found.examples[0] in each.examples]
        return words

    def _own_words(self) -> Iterator[Edge | Node]:
        for node in (each for each in self._graph.nodes.values() if each.role == "user"):
            yield from (edge for edge in node.next if edge.when)
            yield node

    def _agent(self, body: dict[str, Any]) -> str:
        if "<instruction>" in last_message(body):
            prompt = last_message(body).partition("<instruction>\n")[2].partition("\n</instruction>")[0]
            node = next((each for each in self._graph.nodes.values() if each.prompt == prompt), None)
            return node.examples[0] if node else "Goodbye."
        chat = [{**message} for message in body["messages"] if message["role"] != "system"]
        chat[0]["content"] = chat[0]["content"].rpartition("</known>\n\n")[2]
        return self._oracle.reply(chat[1:] if chat[0]["content"] == AWAITING_GREETING else chat)

    def _router(self, body: dict[str, Any]) -> str:
        last = re.findall(rf"^{TURN}Customer: (.*)$", last_message(body), re.MULTILINE)[-1]
        options = re.findall(r"^(\d+)\. (.*)$", last_message(body), re.MULTILINE)
        meant = {_goal(each) for each in self.meant.get(last, [])}
        return json.dumps({"option": int(next((number for number, text in options if text in meant), 1))})

    def _steps(self, who: str, line: str) -> list[str]:
        if who == "Agent":
            return list(next(iter(self._labeller.label(line)), Label((), ())).nodes)
        meant = next(iter(self.meant.get(line, [])), None)
        if not isinstance(meant, Edge):
            return [meant.id] if meant else []
        hub = next(node.id for node in self._graph.nodes.values() if meant in node.next)
        return [f"{hub} -> {meant.to}"]

    def _score(self, body: dict[str, Any]) -> int:
        lines = [line for _, who, line in judgements.turns_of(body) if who == "Agent"]
        return 5 if all(self._labeller.label(line) for line in lines) else 2


def _goal(of: Edge | Node) -> str | None:
    return of.when if isinstance(of, Edge) else of.prompt


def _rendered(text: str | None, values: dict[str, str]) -> str:
    return render(text or "", {name: values.get(name, "") for name in variables_of(text or "")})
