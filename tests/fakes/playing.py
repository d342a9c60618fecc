"""An evaluation's parts for tests: run inputs, callers of a fake provider, and a provider that plays customer, agent and router."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.fakes.generation import TRAVEL_1, travel
from tests.fakes.messages_api import MessagesApi, chatter, messages_api

from subterra_api.contract import Budget, RunInput, resolve
from subterra_api.digest import procedure_digest
from subterra_api.v1alpha1.compilerun import CompileInputs, Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.common.store import ArtifactStore
from subterra_jobs.providers.desk import Desk

SONNET = {"name": "anthropic", "model": "claude-sonnet-4-6"}
MODEL = Provider.model_validate(SONNET)


def run_input(store: Path, procedure: ProcedureSpec | None = None, **evaluation: Any) -> RunInput:
    """A run over ``procedure`` with its artifacts under ``store``; ``evaluation`` as in a CompileRun."""
    spec = procedure or travel()
    inputs = CompileInputs.model_validate(
        {"procedureRef": {"name": "travel"}, "evaluation": {"scenarios": 20, "simulator": SONNET} | evaluation}
    )
    return resolve(inputs, spec, procedure_digest(spec), TRAVEL_1, store=store.as_uri())


def desk(folder: Path, budget: Budget | None = None) -> Desk:
    """Pays for an evaluation whose store is ``folder``."""
    return Desk(ArtifactStore(folder.as_uri()), TRAVEL_1, "evaluate", budget or Budget(), "work/answers")


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


def system_of(body: dict[str, Any]) -> str:
    """The system prompt of a request of either API."""
    system = body.get("system", body["messages"][0]["content"])
    return system if isinstance(system, str) else "".join(block["text"] for block in system)


def part_of(body: dict[str, Any]) -> str:
    """Who is asked for: customer, router or agent."""
    system = system_of(body)
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
