"""The evaluation stage as a process, against a real chat server that follows the procedure or does not."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from markupsafe import escape

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.environment import RESULT_LIMIT
from subterra_api.job_contract.messages import RunIdentity, RunInput, StageResult
from subterra_api.v1alpha1.compilerun import CompileInputs, GatePolicy
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Scores
from subterra_core.gate.verdict import judge
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.evaluate.analysis.summary import branch_outcomes, summarise
from subterra_jobs.evaluate.judge.judges import examine_by_rules
from subterra_jobs.evaluate.judge.results import Judgement, Result
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.evaluate.report.html import TITLES, render_html
from subterra_jobs.evaluate.report.report import Evaluated, build_report
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.path_cover import path_edges
from subterra_jobs.evaluate.simulate.simulation import simulate_scripted
from subterra_jobs.evaluate.simulate.vllm_client import UnplayableError, VLLMClient
from subterra_testkit.repository import ROOT
from subterra_testkit.runs.customer_meanings import customer_meanings
from subterra_testkit.servers.fake_chat_server import fake_chat_server

SPEC = ProcedureSpec.model_validate(yaml.safe_load((ROOT / "examples/travel/procedure.yaml").read_text())["spec"])
GRAPH = Graph(SPEC)


def run_input(tmp_path: Path, count: int = 60, seed: int = 7, **evaluation: Any) -> RunInput:
    inputs = CompileInputs.model_validate(
        {"procedureRef": {"name": "travel"}, "evaluation": {"scenarios": count, "seed": seed, **evaluation}}
    )
    identity = RunIdentity(name="travel-0123abcd", namespace="demo", uid="u")
    return resolve(inputs, SPEC, procedure_digest(SPEC), identity, store=f"file://{tmp_path}/store")


def evaluate(tmp_path: Path, damage: str, run: RunInput) -> tuple[int, str, dict[str, Any], str]:
    """Exit code, termination message, report.json and html of the stage."""
    (tmp_path / "input.json").write_text(run.model_dump_json(by_alias=True))
    with fake_chat_server(SPEC, damage, customer_meanings(SPEC, run.evaluation)) as (url, _):
        environment = {**os.environ, "SUBTERRA_VLLM_URL": url, "SUBTERRA_TERMINATION_LOG": str(tmp_path / "log")}
        command = [sys.executable, "-m", "subterra_jobs.evaluate", "--input", str(tmp_path / "input.json")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    artifact = tmp_path / "store" / artifact_path("evaluate", run.keys.report)
    message = (tmp_path / "log").read_text()
    if done.returncode:
        return done.returncode, message, {}, ""
    return 0, message, json.loads((artifact / "report.json").read_text()), (artifact / "report.html").read_text()


def results_of(damage: str, count: int = 40) -> list[Result]:
    """The scenarios played in this process, judged."""
    settings = run_input(Path("/nowhere"), count).evaluation
    cast = build_scenarios(GRAPH, settings)
    with fake_chat_server(SPEC, damage) as (url, _):
        played = asyncio.run(simulate_scripted(url, cast, max_tokens=256, wait_seconds=5))
    labeller = RuleLabeller(GRAPH)
    return [examine_by_rules(GRAPH, labeller, *pair) for pair in zip(cast, played.conversations, strict=True)]


def test_an_agent_that_follows_the_procedure_passes_the_gate_with_full_marks(tmp_path: Path) -> None:
    run = run_input(tmp_path, 100)
    code, message, data, page = evaluate(tmp_path, "none", run)
    assert code == 0
    assert len(message.encode()) < RESULT_LIMIT
    result = StageResult.model_validate_json(message)
    assert result.scores is not None
    assert {name: value.mean for name, value in result.scores.criteria.items()} == dict.fromkeys(TITLES, 5.0)
    assert (result.scores.conformance.mean, result.scores.failure_rate.mean, result.scores.slots_exact) == (1, 0, 1)
    assert judge(result.scores, GatePolicy()).result == "Pass"
    assert data["arms"]["candidate"]["unplayed"] == 0
    assert data["illegalTransitions"] == data["edgesNotPlayed"] == []
    assert run.banner is not None
    assert data["banner"] == run.banner
    assert page.index(escape(run.banner)) < page.index("<h1>")


def test_the_report_has_every_scenarios_scores_under_an_id_for_pairing(tmp_path: Path) -> None:
    _, _, data, _ = evaluate(tmp_path, "none", run_input(tmp_path, 20))
    ids = [row["id"] for row in data["scenarios"]]
    assert len(set(ids)) == 20
    assert ids == [scenario.id for scenario in build_scenarios(GRAPH, run_input(tmp_path, 20).evaluation)]
    assert all(set(row["scores"]) == set(TITLES) for row in data["scenarios"])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [("hasty", "conformance"), ("bold", "conformance"), ("forgetful", "informationAccuracy"), ("garbled", "naturalness")],
)
def test_a_damaged_agent_fails_the_gate_for_its_reason(damage: str, reason: str) -> None:
    verdict = judge(summarise({"candidate": results_of(damage, 80)}, 7), GatePolicy())
    assert verdict.result == "Fail"
    assert any(text.startswith(reason) for text in verdict.reasons), verdict.reasons


def test_conversations_that_cannot_be_played_are_kept_and_count_as_failed(tmp_path: Path) -> None:
    code, message, data, page = evaluate(tmp_path, "broken", run_input(tmp_path))
    assert code == 0
    result = StageResult.model_validate_json(message)
    assert result.scores is not None
    assert (data["arms"]["candidate"]["unplayed"], result.scores.scenarios) == (30, 60)
    assert result.scores.failure_rate.mean == 0.5
    assert "30 could not be simulated" in result.message
    assert "this conversation is too long" in page
    assert judge(result.scores, GatePolicy()).result == "Fail"


def test_a_server_that_is_not_there_is_a_failure_of_the_infrastructure() -> None:
    cast = build_scenarios(GRAPH, run_input(Path("/nowhere"), 10).evaluation)
    with pytest.raises(InfrastructureError, match="check the log of the vllm container"):
        asyncio.run(simulate_scripted("http://127.0.0.1:9", cast, max_tokens=64, wait_seconds=0))


def test_a_lost_connection_is_tried_again() -> None:
    calls = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        if len(calls) < 3:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"choices": [{"message": {"content": "Hi"}}]})

    async def once() -> str:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://x") as http:
            return (await VLLMClient(http, "m", 8, backoff=0).reply([])).text

    assert asyncio.run(once()) == "Hi"
    assert len(calls) == 3


@pytest.mark.parametrize("body", [b"not JSON", b"{}", b'{"choices": []}', b"[]", b'{"choices": [{"message": null}]}'])
def test_an_answer_that_makes_no_sense_is_an_unplayable_conversation(body: bytes) -> None:
    async def once() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            await VLLMClient(http, "m", 8, backoff=0).reply([])

    with pytest.raises(UnplayableError):
        asyncio.run(once())


def test_requests_hold_the_conversation_only_and_never_no_message() -> None:
    cast = build_scenarios(GRAPH, run_input(Path("/nowhere"), 10).evaluation)
    with fake_chat_server(SPEC) as (url, seen):
        asyncio.run(simulate_scripted(url, cast, max_tokens=64, wait_seconds=5))
    assert all(body["messages"] and body["temperature"] == 0 for body in seen)
    system = [message for body in seen for message in body["messages"] if message["role"] == "system"]
    assert system
    assert all(message["content"] == "" for message in system)


def test_a_reply_cannot_put_anything_into_the_page(tmp_path: Path) -> None:
    _, _, data, page = evaluate(tmp_path, "hostile", run_input(tmp_path, 10))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert data["scores"]["conformance"]["mean"] == 0


def test_a_hostile_banner_and_value_are_escaped_too(tmp_path: Path) -> None:
    results = results_of("none", 10)
    evil = replace(results[0], scenario=replace(results[0].scenario, id="<img src=x onerror=alert(1)>"))
    run = run_input(tmp_path, 10).model_copy(update={"banner": "<b onload=x>"})
    everything = [evil, *results[1:]]
    scores = summarise({"candidate": everything}, 7)
    arms = {"candidate": everything}
    page = render_html(build_report(Evaluated(run, GRAPH, arms, scores, {"model": "<i>m</i>"})), GRAPH, arms)
    assert not any(text in page for text in ("<img", "<b onload", "<i>m"))


def test_graceful_handling_is_left_out_when_hardly_any_customer_posed_a_challenge() -> None:
    calm = [result for result in results_of("none", 40) if not result.challenged]
    scores: Scores = summarise({"candidate": calm}, 7)
    assert calm
    assert "gracefulHandling" not in scores.criteria
    assert all(result.score("gracefulHandling") == 3 for result in calm)
    assert not any("gracefulHandling" in reason for reason in judge(scores, GatePolicy()).reasons)


def test_references_are_compared_on_scenarios_that_the_edit_does_not_touch_and_baselines_have_no_say() -> None:
    good = results_of("none", 40)
    lost = [replace(result, judgements=(None,)) for result in good]
    touched = [replace(result, scenario=replace(result.scenario, affected_by_edit=i < 10)) for i, result in enumerate(good)]
    found = summarise({"candidate": good, "serving": touched, "in-context": lost}, 7).statistics
    assert found is not None
    assert [(each.against, each.failures.of) for each in found.comparisons] == [("serving", 30)]
    assert {difference.mean for difference in found.comparisons[0].criteria.values()} == {0}
    assert found.missing == 0


def test_what_a_reference_made_unplayable_itself_scores_1_and_what_its_server_lost_scores_5() -> None:
    good = results_of("none", 40)

    def broken(result: Result, *, lost: bool) -> Result:
        worst = Judgement(dict.fromkeys(TITLES, 1), result.challenged, ())
        return replace(result, conversation=replace(result.conversation, error="too long", lost=lost), judgements=(worst,))

    mine = [broken(good[0], lost=False), *good[1:]]
    for lost, difference in ((False, 0.0), (True, -4 / 40)):
        found = summarise({"candidate": mine, "serving": [broken(good[0], lost=lost), *good[1:]]}, 7).statistics
        assert found is not None
        assert found.comparisons[0].criteria["taskSuccess"].mean == difference


def test_branches_are_counted_by_the_conversations_that_took_them_and_the_one_that_fails_comes_first() -> None:
    good = results_of("none", 80)
    lost = [replace(r, judgements=(None,)) if ("choice", "alternatives") in path_edges(r.scenario.path) else r for r in good]
    worst = branch_outcomes(lost)[0]
    assert (worst.hub, worst.to, worst.failures) == ("choice", "alternatives", worst.conversations)
    assert worst.conversations == sum(("choice", "alternatives") in path_edges(result.scenario.path) for result in good)
    scores = summarise({"candidate": lost}, 7)
    assert scores.worst_branches
    assert scores.worst_branches[0] == worst
    assert scores.branches_judged == len(branch_outcomes(lost))
