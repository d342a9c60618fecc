"""Questions in between, through the whole evaluation: who answers and goes on handles them, and every broken agent is seen."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.environment import VLLM_VARIABLE
from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.files.lint_report import load_spec
from subterra_core.procedure.otherwise import UNKNOWN_QUESTION, answer_texts
from subterra_jobs.evaluate.main import work
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.runner import execute
from subterra_testkit.repository import ROOT
from subterra_testkit.runs.evaluation_runs import run_input
from subterra_testkit.servers.fake_chat_server import APOLOGY, Chat, Damage, fake_chat_server

BARE = re.compile(r"\{\{\w+\}\}")
SCRIPTED = {"name": "scripted"}


def without_bare_values(spec: ProcedureSpec) -> ProcedureSpec:
    """The procedure without examples that are a value alone, which the fake agent would hear in every question."""
    nodes = [
        node.model_copy(update={"examples": tuple(text for text in node.examples if not BARE.fullmatch(text))})
        for node in spec.nodes
    ]
    return spec.model_copy(update={"nodes": tuple(nodes)})


LIBRARY = without_bare_values(load_spec(ROOT / "examples/library/procedure.yaml"))
UNKNOWN = answer_texts(LIBRARY, UNKNOWN_QUESTION)[0]


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation of the library left."""

    report: dict[str, Any]
    page: str

    @property
    def row(self) -> dict[str, Any]:
        return next(row for row in self.report["robustness"] if row["kind"] == "questions")


def evaluated(folder: Path, patch: pytest.MonkeyPatch, damage: Damage) -> Evaluated:
    run: RunInput = run_input(folder / "store", LIBRARY, scenarios=100, simulator=SCRIPTED, judge=SCRIPTED)
    with fake_chat_server(LIBRARY, damage) as (url, _):
        patch.setenv(VLLM_VARIABLE, url)
        execute("evaluate", work, run, environment=StageEnvironment.parse(os.environ), port=0)
    artifact = folder / "store" / artifact_path("evaluate", run.keys.report)
    return Evaluated(json.loads((artifact / "report.json").read_text()), (artifact / "report.html").read_text())


def answer_to(line: str) -> str:
    """The library's answer to what the customer said."""
    said = line.casefold().rstrip("?")
    found = [each.answer for each in LIBRARY.questions for text in each.examples if text.casefold().rstrip("?") in said]
    return found[0] if found else UNKNOWN


def answers(reply: str, chat: Chat) -> str:
    """Gives the answer where the flowchart has no words, and what it said before."""
    return reply.replace(APOLOGY, answer_to(chat[-1]["content"]))


def answers_another(reply: str, chat: Chat) -> str:
    """Says when the library is open, whatever the customer wants to know."""
    return reply.replace(APOLOGY, LIBRARY.questions[0].answer)


def test_an_agent_that_answers_and_goes_on_handles_every_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evaluated(tmp_path, monkeypatch, answers)
    assert (found.row["hits"], found.row["of"], found.row["failed"]) == (14, 14, [])
    rows = {row["name"]: row["of"] for row in found.report["questions"]}
    assert len(rows) == 7
    assert min(rows.values()) >= 1
    assert {score["kind"]: score["hits"] for score in found.report["scores"]["robustness"]}["questions"] == 14
    assert "Questions in between" in found.page
    assert found.report["scores"]["conformance"]["mean"] == 1, "the other conversations are as they were"


def test_an_agent_that_knows_one_answer_only_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evaluated(tmp_path, monkeypatch, answers_another)
    assert (found.row["hits"], found.row["of"]) == (2, 14)
    assert all("answered opening-hours, not " in item["why"] for item in found.row["failed"])
    assert {row["name"] for row in found.report["questions"] if row["hits"]} == {"opening-hours"}
    assert found.report["scores"]["conformance"]["mean"] == 1
