"""A stored model is evaluated again by the stage as a process: from another run's input, with other scenarios."""

import json
import os
import subprocess
import sys
from pathlib import Path

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.defaults import evaluate_again, resolve
from subterra_api.job_contract.environment import EVALUATED_AGAIN_VARIABLE
from subterra_api.job_contract.messages import EvaluatedAgain, RunIdentity, RunInput, StageResult
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_testkit.cluster.kubernetes_objects import TRAVEL_SPEC
from subterra_testkit.runs.customer_meanings import customer_meanings
from subterra_testkit.servers.fake_chat_server import fake_chat_server


def evaluated(folder: Path, run: RunInput, change: EvaluatedAgain | None = None) -> tuple[StageResult, bytes, list[str]]:
    """What the stage says, its report.json, and what customers said in each conversation."""
    (folder / "input.json").write_text(run.model_dump_json(by_alias=True))
    played = evaluate_again(run, change) if change else run
    with fake_chat_server(TRAVEL_SPEC, "none", customer_meanings(TRAVEL_SPEC, played.evaluation)) as (url, _):
        environment = {**os.environ, "SUBTERRA_VLLM_URL": url, "SUBTERRA_TERMINATION_LOG": str(folder / "log")}
        environment |= {EVALUATED_AGAIN_VARIABLE: change.model_dump_json(by_alias=True)} if change else {}
        command = [sys.executable, "-m", "subterra_jobs.evaluate", "--input", str(folder / "input.json")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = folder / "store" / artifact_path("evaluate", played.keys.report)
    lines = [json.loads(line) for line in (report / "transcripts.jsonl").read_text().splitlines()]
    said = [" / ".join(turn["text"] for turn in line["turns"] if turn["role"] == "user") for line in lines]
    return StageResult.model_validate_json((folder / "log").read_text()), (report / "report.json").read_bytes(), said


def test_another_evaluation_plays_other_customers_and_leaves_the_first_report(tmp_path: Path) -> None:
    inputs = CompileInputs.model_validate({"procedureRef": {"name": "travel"}, "evaluation": {"scenarios": 20}})
    first = RunIdentity(name="travel-1", namespace="demo", uid="1", agent="travel")
    run = resolve(inputs, TRAVEL_SPEC, procedure_digest(TRAVEL_SPEC), first, store=f"file://{tmp_path}/store")
    _, report, said = evaluated(tmp_path, run)
    other = RunIdentity(name="travel-2", namespace="demo", uid="2", agent="travel")
    change = EvaluatedAgain(run=other, evaluation=run.evaluation.model_copy(update={"seed": 294623414}))
    result, again, said_then = evaluated(tmp_path, run, change)
    assert (result.key, result.reused) == (evaluate_again(run, change).keys.report, False)
    assert result.scores is not None
    assert result.scores.scenarios == 20
    assert not set(said_then) & set(said), "no customer says the same"
    path = tmp_path / "store" / artifact_path("evaluate", run.keys.report) / "report.json"
    assert path.read_bytes() == report != again
    assert evaluated(tmp_path, run, change)[0].reused, "the same request is evaluated once"
