"""pass^k through the whole stage: an agent that understands only some of a customer's words is not reliable."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.environment import VLLM_VARIABLE
from subterra_api.v1alpha1.scores import Scores
from subterra_cli.agents.evaluation_transcripts import read_transcripts
from subterra_jobs.evaluate.main import work
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.runner import execute
from subterra_testkit.procedures import agent, end, procedure, user
from subterra_testkit.runs.evaluation_runs import run_input
from subterra_testkit.servers.fake_chat_server import APOLOGY, Chat, Damage, fake_chat_server

SCRIPTED = {"name": "scripted"}
TAXI = procedure(
    agent("hello", "where", examples=["Taxi service, where to?"]),
    user(
        "where",
        "when",
        examples=["To {{street}}, please.", "{{street}}.", "I have to get to {{street}}.", "Drive me to {{street}}."],
    ),
    agent("when", "time", examples=["To {{street}}. At what time?"]),
    user(
        "time", "done", examples=["At {{hour}}.", "{{hour}}, please.", "I would like to leave at {{hour}}.", "Let us say {{hour}}."]
    ),
    end("done", examples=["A taxi to {{street}} comes at {{hour}}. Goodbye!"]),
    variables=[
        {"name": "street", "values": ["Main Street", "Oak Lane", "Mill Road", "Park Avenue"], "open": True},
        {"name": "hour", "values": ["six", "seven", "eight", "nine", "ten"], "open": True},
    ],
)


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation of the taxi service left."""

    scores: Scores
    report: dict[str, Any]
    folder: Path
    requests: int


def evaluated(folder: Path, patch: pytest.MonkeyPatch, damage: str | Damage, **settings: Any) -> Evaluated:
    run = run_input(folder / "store", TAXI, scenarios=20, simulator=SCRIPTED, judge=SCRIPTED, **settings)
    with fake_chat_server(TAXI, damage) as (url, requests):
        patch.setenv(VLLM_VARIABLE, url)
        result = execute("evaluate", work, run, environment=StageEnvironment.parse(os.environ), port=0)
    artifact = folder / "store" / artifact_path("evaluate", run.keys.report)
    assert result.scores is not None
    return Evaluated(result.scores, json.loads((artifact / "report.json").read_text()), artifact, len(requests))


def deaf_to_one_wording(reply: str, chat: Chat) -> str:
    """Does not understand those who say “Let us say”."""
    return APOLOGY if chat[-1]["content"].startswith("Let us say") else reply


def test_an_agent_that_is_deaf_to_one_wording_passes_often_but_not_with_every_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluated(tmp_path, monkeypatch, deaf_to_one_wording, trials=4)
    tried = found.scores.trials
    assert tried is not None
    assert tried.of >= 15
    assert tried.passed > 0.6 * 4 * tried.of
    assert tried.passed_all < 0.6 * tried.of
    rows = found.report["trials"]["passHat"]
    assert [row["k"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["share"]["mean"] > rows[-1]["share"]["mean"] == tried.passed_all / tried.of
    assert found.report["trials"]["mixedCustomers"] >= tried.of - tried.passed_all - 2
    assert any(reason.startswith("pass^4: ") for reason in found.report["verdict"]["reasons"])


def test_trials_leave_every_other_score_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = evaluated(tmp_path / "once", monkeypatch, deaf_to_one_wording)
    often = evaluated(tmp_path / "often", monkeypatch, deaf_to_one_wording, trials=3)
    assert once.scores.trials is None
    assert often.scores.model_copy(update={"trials": None}) == once.scores
    assert once.report["scenarios"] == often.report["scenarios"]
    assert often.requests > once.requests


def test_further_trials_are_in_the_transcripts_and_on_no_sheet_for_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = evaluated(tmp_path, monkeypatch, "none", trials=2)
    rows = [json.loads(line) for line in (found.folder / "transcripts.jsonl").read_text().splitlines()]
    further = [row for row in rows if row.get("trial") == 2]
    assert found.scores.trials is not None
    assert len(further) == found.scores.trials.passed_all == found.scores.trials.of
    assert {row["trialOf"] for row in further} <= {row["id"] for row in rows if "trial" not in row}
    assert not {one.scenario for one in read_transcripts(found.folder).conversations} & {row["id"] for row in further}
