"""The manifests of the paper's runs have its settings, can be planned, and say truly whether they fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.job_contract.defaults import generation_of, training_of
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, RunTemplate
from subterra_cli.main import app
from subterra_core.training_fit.training_plan import gigabytes
from subterra_testkit.repository import ROOT

FILES = sorted((ROOT / "examples/paper").glob("*.yaml"))
PAPER = {
    # Model, conversations, seeds, batch, epochs, ranks, as in arXiv 2605.22502.
    "travel-3b-rtx5090": ("Qwen2.5-3B-Instruct", 2125, (42,), 16, 20, 1),
    "zoom-8b-8xa100": ("Qwen3-8B", 870, tuple(range(42, 50)), 32, 10, 8),
    "insurance-8b-8xa100": ("Qwen3-8B", 3000, (42,), 32, 20, 8),
    "insurance-8b-h200": ("Qwen3-8B", 1600, (42,), 32, 12, 1),
}
OPTIMIZERS = {"travel-3b-rtx5090": ("adamw8bit", 0), "insurance-8b-h200": ("adamwbf16", 0)}
"""With ZeRO stage, where a single card has no room for a float32 copy of the weights."""


def template(file: Path) -> RunTemplate:
    source = CompiledAgentSpec.model_validate_json(json.dumps(yaml.safe_load(file.read_text())["spec"])).compile
    assert source is not None
    return source.template


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_manifest_has_the_paper_s_settings(file: Path) -> None:
    run = template(file)
    written, trained = generation_of(run.generation, "external"), training_of(run.training, "external")
    found = (run.base_model.uri.rpartition("/")[2], written.conversations, written.seeds, trained.batch_size, trained.epochs)
    assert (*found, run.execution.train.ranks) == PAPER[file.stem]
    assert (trained.learning_rate, written.held_out_percent) == (2e-5, 10)
    assert (trained.optimizer, trained.zero_stage) == OPTIMIZERS.get(file.stem, ("adamw", 3))
    assert trained.checkpoint_steps == written.conversations * len(written.seeds) * 9 // 10 // trained.batch_size
    assert {file.stem for file in FILES} == set(PAPER)


def planned(file: Path) -> dict[str, Any]:
    (command,) = [line.removeprefix("#   subterra ") for line in file.read_text().splitlines() if line.startswith("#   subterra ")]
    arguments = [str(ROOT / each) if each.startswith("examples/") else each for each in command.split()]
    result = CliRunner().invoke(app, [*arguments, "-o", "json"])
    assert result.exit_code == 0, result.output
    data: dict[str, Any] = json.loads(result.output)
    return data


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_command_in_a_manifest_plans_it_within_its_cap_and_agrees_with_its_comment(file: Path) -> None:
    plan, comment = planned(file), file.read_text()
    training = plan["training"]
    assert [cap["covers"] for cap in plan["caps"]] == ["all"]
    assert training["card"] is not None
    fits = next(card["fits"] for card in training["cards"] if card["name"] == training["card"])
    assert fits and "By the estimate it fits" in comment
    assert training["warnings"] == []
    assert "Not run on GPUs by this project" in comment
    guide = (ROOT / "docs/guides/costs-and-budgets.md").read_text()
    assert f"/{file.name}) | {gigabytes(training['bytesPerRank']['peak'])} | " in guide
