"""``subterra preset``: what it prints can be planned and applied."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_cli.main import app
from subterra_core.presets import preset_catalog
from subterra_core.training_fit.gpu_cards import card_named
from subterra_testkit.repository import ROOT

TRAVEL = str(ROOT / "examples/travel/procedure.yaml")
POOLS = """\
pools:
  h200: {gpuType: H200-141, gpusPerNode: 8}
  small: {gpuType: L4-24}
"""


def subterra(*words: str) -> Result:
    return CliRunner().invoke(app, [*words])


def manifest_file(folder: Path, *words: str) -> str:
    printed = subterra("preset", *words)
    assert printed.exit_code == 0, printed.output
    (folder / "agent.yaml").write_text(printed.stdout)
    return str(folder / "agent.yaml")


def test_the_list_says_what_each_needs_and_whether_it_fits() -> None:
    rows = {line.split()[0]: line for line in subterra("preset").output.splitlines() if line.strip()}
    assert " yes " in rows["qwen2.5-3b-1xh200"]
    assert " yes " in rows["qwen3-8b-1xh200"]
    listed = {entry["name"]: entry for entry in json.loads(subterra("preset", "-o", "json").output)}
    assert listed["qwen3-8b-8xa100"]["gpus"] == 8
    assert listed["smollm2-cpu"]["card"] is None


def test_a_printed_manifest_is_an_agent_of_the_named_procedure_in_the_named_pool(tmp_path: Path) -> None:
    agent = yaml.safe_load(Path(manifest_file(tmp_path, "qwen3-8b-8xh200", "--procedure", "claims", "--pool", "mine")).read_text())
    spec = CompiledAgentSpec.model_validate_json(json.dumps(agent["spec"]))
    assert spec.compile
    assert (agent["metadata"]["name"], spec.compile.procedure_ref.name) == ("claims", "claims")
    assert (spec.serving.pool, spec.compile.template.execution.train.pool) == ("mine", "mine")


def test_a_printed_manifest_is_planned_for_the_card_of_its_pool(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(POOLS)
    file = manifest_file(tmp_path, "qwen2.5-3b-1xh200")
    known = subterra("plan", TRAVEL, file, "--pools", str(values), "--store-size", "200Gi", "-o", "json")
    assert known.exit_code == 0, known.output
    assert json.loads(known.output)["training"]["card"] == "H200-141"
    assert json.loads(known.output)["training"]["warnings"] == []
    small = manifest_file(tmp_path, "qwen2.5-3b-1xh200", "--pool", "small")
    refused = subterra("plan", TRAVEL, small, "--pools", str(values), "--store-size", "200Gi", "-o", "json")
    assert json.loads(refused.output)["training"]["warnings"][0].startswith("does not fit L4-24: 67 GB needed")


def test_what_does_not_fit_is_listed_so_and_printed_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(preset_catalog.preset_named("qwen3-8b-1xh200"), card=card_named("A100-80"))
    monkeypatch.setattr(preset_catalog, "presets", lambda: (small,))
    assert " no " in subterra("preset").output
    text = Path(manifest_file(tmp_path, "qwen3-8b-1xh200")).read_text()
    assert "# WARNING: does not fit A100-80: 122 GB needed" in text
    assert "warning: does not fit A100-80" in subterra("preset", "qwen3-8b-1xh200").stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("preset", "llama"), "there is no preset llama; there are scratch-cpu"),
        (
            ("plan", TRAVEL, "{agent}", "--pools", "{values}"),
            "there is no pool elsewhere; use one of h200, small, or add it to pools",
        ),
        (("plan", TRAVEL, "{agent}", "--pools", TRAVEL), "there are no pools in it; pass a file with values of the chart"),
    ],
)
def test_a_name_that_is_not_known_is_refused_with_those_that_are(tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    (tmp_path / "values.yaml").write_text(POOLS)
    places = {
        "{agent}": manifest_file(tmp_path, "qwen2.5-3b-1xh200", "--pool", "elsewhere"),
        "{values}": str(tmp_path / "values.yaml"),
    }
    result = subterra(*(places.get(word, word) for word in words))
    assert result.exit_code == 2
    assert text in result.output
