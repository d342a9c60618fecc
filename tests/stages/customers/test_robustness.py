"""Customers beyond the examples, through the whole stage: an agent that makes values up is refused though it follows every step."""

import json
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.environment import VLLM_VARIABLE
from subterra_api.job_contract.messages import Evaluation, RunInput, StageResult
from subterra_api.v1alpha1.procedure import ProcedureSpec, Variable
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.graph import Path as Steps
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.detours import DetourKind
from subterra_jobs.dialogue.scripted import example_templates
from subterra_jobs.evaluate import robustness_run
from subterra_jobs.evaluate.main import work
from subterra_jobs.evaluate.scenarios.robustness import CustomerSources, build_robustness
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.runner import execute
from subterra_testkit.procedures import agent, branch, end, procedure, user
from subterra_testkit.runs.evaluation_runs import run_input
from subterra_testkit.servers.fake_chat_server import Chat, Damage, fake_chat_server

SCRIPTED = {"name": "scripted"}
CORRECTED = re.compile(r"([A-Z]\w+ ?)+, or rather ")
UNLISTED = ("Zolpidem", "Tramadol", "Codeine")
PHARMACY = procedure(
    agent("hello", "who", examples=["Welcome to the pharmacy. What is your name?"]),
    user("who", "which", examples=["I am {{name}}.", "{{name}}"]),
    agent("which", "medicine", examples=["Thank you, {{name}}. Which medicine shall we refill?"]),
    user("medicine", "confirm", examples=["{{medicine}}, please.", "I need {{medicine}}."]),
    agent("confirm", "answer", examples=["A refill of {{medicine}} for {{name}}. Is that right?"]),
    user("answer", branch("done", "Yes, please."), branch("left", "No, forget it.")),
    end("done", examples=["{{medicine}} is on its way, {{name}}. Goodbye!"]),
    end("left", outcome="abandonment", examples=["Goodbye then."]),
    variables=[
        {"name": "name", "values": ["Ann", "Ben"], "open": True},
        {"name": "medicine", "values": ["Aspirin", "Ibuprofen", "Insulin", "Metformin"]},
    ],
)


@dataclass(frozen=True)
class Detour:
    """A turn that the pharmacy's flowchart does not have."""

    at: int
    customer: str
    value: str = ""


def draw_detour(
    graph: Graph, path: Steps, values: Mapping[str, str], kind: DetourKind, rng: random.Random, *, held_out: bool
) -> Detour:
    """Before the customer names a medicine, or after the end."""
    value = rng.choice(UNLISTED)
    return {
        "unknown value": Detour(1, f"{value}, please.", value),
        "off topic": Detour(1, "Is it raining where you are?"),
        "after end": Detour(3, "And what about the weather?"),
    }[kind]


class Phrasing:
    """Words that are no example, for each line of the pharmacy's customers."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def line(self, node: str, taken: str | None, values: Mapping[str, str], rng: random.Random) -> str:
        return f"Well then: {render(example_templates(self._graph, node, taken)[0], values)}"

    def opener(self, opener: str, rng: random.Random) -> str:
        return f"{opener} there"


def real_values(variable: Variable, *, held_out: bool) -> Sequence[str]:
    return ("Grace Hopper", "Alan Turing") if variable.name == "name" else ()


def sources(graph: Graph) -> CustomerSources:
    return CustomerSources(Phrasing(graph), ("{other}, or rather {value}",), draw_detour, real_values)


def meanings(spec: ProcedureSpec, settings: Evaluation) -> dict[str, str]:
    """What a faultless agent understands beyond the examples: other words, and values that are corrected at once."""
    lines = [line for each in build_robustness(Graph(spec), settings, sources(Graph(spec))).scenarios for line in each.lines]
    corrected = {line: CORRECTED.sub("", line) for line in lines}
    return {line: meant.removeprefix("Well then: ") for line, meant in corrected.items()}


def make_up(reply: str, chat: Chat) -> str:
    """Confirms a listed medicine for every one that is not in the list."""
    return re.sub("|".join(UNLISTED), "Insulin", reply)


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation of the pharmacy left."""

    result: StageResult
    report: dict[str, Any]
    page: str

    @property
    def robustness(self) -> dict[str, tuple[int, int]]:
        assert self.result.scores is not None
        assert self.result.scores.robustness is not None
        return {score.kind: (score.hits, score.of) for score in self.result.scores.robustness}


def evaluated(folder: Path, patch: pytest.MonkeyPatch, damage: str | Damage = "none", scenarios: int = 200) -> Evaluated:
    run: RunInput = run_input(folder / "store", PHARMACY, scenarios=scenarios, simulator=SCRIPTED, judge=SCRIPTED)
    patch.setattr(robustness_run, "customer_sources", sources)
    with fake_chat_server(PHARMACY, damage, meanings(PHARMACY, run.evaluation)) as (url, _):
        patch.setenv(VLLM_VARIABLE, url)
        result = execute("evaluate", work, run, environment=StageEnvironment.parse(os.environ), port=0)
    artifact = folder / "store" / artifact_path("evaluate", run.keys.report)
    return Evaluated(result, json.loads((artifact / "report.json").read_text()), (artifact / "report.html").read_text())


def test_an_agent_that_handles_everything_passes_for_scripted_customers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evaluated(tmp_path, monkeypatch)
    assert [row["failed"] for row in found.report["robustness"]] == [[]] * 6
    assert {of for _, of in found.robustness.values()} == {14, 60}
    assert found.report["fabrication"]["hits"] == 0
    assert found.report["verdict"]["result"] == "Pass"
    assert found.report["verdict"]["reasons"][0].startswith("for scripted customers: all ")
    assert "Pass, for scripted customers" in found.page


def test_an_agent_that_confirms_another_medicine_for_every_unlisted_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluated(tmp_path, monkeypatch, make_up)
    scores = found.result.scores
    assert scores is not None
    assert scores.conformance.mean == 1
    assert scores.failure_rate.mean == 0
    assert scores.scenarios == 200
    assert found.robustness["unknownValues"] == (0, 14)
    assert found.report["verdict"]["result"] == "Fail"
    assert (
        "unknownValues: 0 of 14 handled: for a value outside a closed list the agent asserts another one; "
        "set open: true or add a branch"
    ) in found.report["verdict"]["reasons"]
    assert found.report["fabrication"]["hits"] >= 14
    assert "medicine: nobody gave “Insulin”" in found.page


def test_small_evaluations_stay_small_and_kinds_without_customers_have_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluated(tmp_path, monkeypatch, scenarios=10)
    assert sum(of for _, of in found.robustness.values()) <= 4
    untested = {row["untested"] for row in found.report["robustness"] if not row["of"]}
    assert untested == {"too few scenarios; raise evaluation.scenarios"}
