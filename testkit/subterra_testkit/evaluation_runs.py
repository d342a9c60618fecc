"""An evaluation's parts for tests: run inputs, callers of a fake provider, and a provider that plays customer, agent and router."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
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
from subterra_jobs.evaluate.judge.rule_labeller import Label, Labeller
from subterra_jobs.evaluate.simulate.agents import OPENED
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.store.artifacts import ArtifactStore
from subterra_testkit import judgements
from subterra_testkit.fake_chat_server import Oracle
from subterra_testkit.fake_llm_api import MessagesApi, chatter, messages_api
from subterra_testkit.generation_inputs import TRAVEL_1, travel

SONNET = {"name": "anthropic", "model": "claude-sonnet-4-6"}
MODEL = Provider.model_validate(SONNET)


def run_input(
    store: Path, procedure: ProcedureSpec | None = None, *, references: tuple[Reference, ...] = (), **evaluation: Any
) -> RunInput:
    """A run over ``procedure`` with its artifacts under ``store``; ``evaluation`` as in a CompileRun."""
    spec = procedure or travel()
    inputs = CompileInputs.model_validate(
        {"procedureRef": {"name": "travel"}, "evaluation": {"scenarios": 20, "simulator": SONNET} | evaluation}
    )
    return resolve(inputs, spec, procedure_digest(spec), TRAVEL_1, store=store.as_uri(), references=references)


def desk(folder: Path, budget: Budget | None = None) -> ClientPool:
    """Pays for an evaluation whose store is ``folder``."""
    return ClientPool(ArtifactStore(folder.as_uri()), TRAVEL_1, "evaluate", budget or Budget(), "work/answers")


@contextmanager
def provider(api: MessagesApi | None = None) -> Iterator[MessagesApi]:
    """A provider that SDKs in this process and its children find; ends, words and decisions as `in_character` has them."""
    with messages_api(api or MessagesApi(answer=in_character)) as served:
        keys = {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": served.url, "OPENAI_API_KEY": "sk-test"}
        with patch.dict(os.environ, keys):
            yield served


def asked(body: dict[str, Any]) -> str:
    """The last message of a request."""
    return str(body["messages"][-1]["content"])


def part_of(body: dict[str, Any]) -> str:
    """Who is asked for: customer, router or agent."""
    system = judgements.system_of(body)
    if "You play a customer" in system:
        return "customer"
    return "router" if "numbered options" in system else "agent"


def in_character(body: dict[str, Any]) -> str:
    """A customer with a wish for each turn, who then ends; a router that takes the first way; an agent who says something."""
    if part_of(body) == "router":
        return json.dumps({"option": 1})
    if part_of(body) == "agent":
        return f"Certainly, {chatter(asked(body))}."
    said = len(re.findall(r"^Customer: ", asked(body), re.MULTILINE))
    wishes = re.findall(r"^\d+\. (.*)$", asked(body), re.MULTILINE)
    return f"{wishes[said]} {chatter(asked(body))}" if said < len(wishes) else "[END]"


class Company:
    """Everybody whom an evaluation asks, and all of them right: customers say the procedure's own wordings for their wishes, agents
    follow the flowchart, routers and labellers know what was meant, and judges are content with words that they know.
    """

    def __init__(self, spec: ProcedureSpec) -> None:
        self._graph, self._oracle, self._labeller = Graph(spec), Oracle(spec), Labeller(Graph(spec))
        self._openers = set(spec.openers)
        self.meant: dict[str, list[Edge | Node]] = {}
        """What the customers' words can mean."""

    def __call__(self, body: dict[str, Any]) -> str:
        if judgements.is_judging(body):
            return judgements.verdict(body, lambda _, each: self._score(each))
        if judgements.is_labelling(body):
            return judgements.labelled(body, {line: self._steps(who, line) for _, who, line in judgements.turns_of(body)})
        return {"customer": self._customer, "router": self._router, "agent": self._agent}[part_of(body)](body)

    def _customer(self, body: dict[str, Any]) -> str:
        said = [line for line in re.findall(r"^Customer: (.*)$", asked(body), re.MULTILINE) if line not in self._openers]
        wishes = re.findall(r"^\d+\. (.*)$", asked(body), re.MULTILINE)
        if len(said) >= len(wishes):
            return "[END]"
        values = dict(re.findall(r"^- (\w+): (.*?)(?: \(.*\))?$", asked(body), re.MULTILINE))
        found = next(each for each in self._own_words() if _filled(_wish(each), values) == wishes[len(said)])
        words = _filled(found.examples[0], values)
        self.meant[words] = [each for each in self._own_words() if found.examples[0] in each.examples]
        return words

    def _own_words(self) -> Iterator[Edge | Node]:
        for node in (each for each in self._graph.nodes.values() if each.role == "user"):
            yield from (edge for edge in node.next if edge.when)
            yield node

    def _agent(self, body: dict[str, Any]) -> str:
        if "<instruction>" in asked(body):
            prompt = asked(body).partition("<instruction>\n")[2].partition("\n</instruction>")[0]
            node = next((each for each in self._graph.nodes.values() if each.prompt == prompt), None)
            return node.examples[0] if node else "Goodbye."
        chat = [{**message} for message in body["messages"] if message["role"] != "system"]
        chat[0]["content"] = chat[0]["content"].rpartition("</known>\n\n")[2]
        return self._oracle.reply(chat[1:] if chat[0]["content"] == OPENED else chat)

    def _router(self, body: dict[str, Any]) -> str:
        last = re.findall(r"^Customer: (.*)$", asked(body), re.MULTILINE)[-1]
        options = re.findall(r"^(\d+)\. (.*)$", asked(body), re.MULTILINE)
        meant = {_wish(each) for each in self.meant.get(last, [])}
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


def _wish(of: Edge | Node) -> str | None:
    return of.when if isinstance(of, Edge) else of.prompt


def _filled(text: str | None, values: dict[str, str]) -> str:
    return render(text or "", {name: values.get(name, "") for name in variables_of(text or "")})
