"""A LangGraph graph goes on its way: imported, its gaps filled in by an author, linted, and compiled by the real stages."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from subterra_api.job_contract.messages import RunInput, StageResult
from subterra_cli.files.lint_report import load_spec
from subterra_cli.main import app
from subterra_testkit.repository import ROOT
from subterra_testkit.runs.generation_inputs import run_input

ROOTS = [str(ROOT / folder) for folder in ("api", "core", "jobs")]


def filled_in(document: dict[str, Any]) -> dict[str, Any]:
    """What an author does with the gaps: says who the agent is, what is said, and in which words a branch shows."""
    spec = document["spec"] | {"systemPrompt": "You help a shop's customers."}
    for place, node in enumerate(spec["nodes"]):
        node.update(prompt=f"Say line {place}.", examples=[f"This is line {place}."])
        for branch, edge in enumerate(node.get("next", [])):
            if "when" in edge:
                edge.update(when=f"The customer wants {branch}.", examples=[f"I want {branch} of {place}."])
    return document | {"spec": spec}


def finished(stage: str, run: RunInput, tmp_path: Path) -> StageResult:
    """What a stage says of itself, run as its Job's pod runs it."""
    (tmp_path / "input.json").write_text(run.model_dump_json(by_alias=True))
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(ROOTS),
        "SUBTERRA_TERMINATION_LOG": str(tmp_path / "said"),
        "SUBTERRA_WORKERS": "1",
    }
    command = [sys.executable, "-m", f"subterra_jobs.{stage}", "--input", str(tmp_path / "input.json")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return StageResult.model_validate_json((tmp_path / "said").read_text())


def test_an_imported_graph_is_linted_and_compiled(tmp_path: Path) -> None:
    imported = CliRunner().invoke(app, ["import", "langgraph", "subterra_testkit.langgraph_shop:graph"])
    file = tmp_path / "procedure.yaml"
    file.write_text(yaml.safe_dump(filled_in(yaml.safe_load(imported.stdout)), sort_keys=False))
    linted = CliRunner().invoke(app, ["lint", str(file)])
    assert (linted.exit_code, linted.stderr) == (0, "")

    run = run_input(tmp_path / "store", load_spec(file), conversations=60)
    run = run.model_copy(update={"training": run.training.model_copy(update={"max_steps": 6})})
    assert "9 of 9 edges" in finished("generate", run, tmp_path).message
    model = finished("train", run, tmp_path)
    assert (tmp_path / "store" / model.path / "model.safetensors").stat().st_size > 0
