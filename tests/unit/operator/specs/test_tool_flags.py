"""vLLM gets the flags of its tool parser for models of procedures with tools, and for no others."""

import json
from pathlib import Path

import pytest

from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import RunIdentity
from subterra_api.v1alpha1.base import LocalReference
from subterra_api.v1alpha1.compilerun import CompileInputs, Reference
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.files.lint_report import load_spec
from subterra_core.provider_rules import tool_conflicts
from subterra_operator.labels import TOOLS, annotations_of
from subterra_operator.specs.run_input import input_config_map
from subterra_operator.specs.vllm_container import check_arguments, command, model_of, reference_model
from subterra_testkit.repository import ROOT

FLAGS = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
INPUTS = CompileInputs(procedure_ref=LocalReference(name="orders"))


def spec(name: str) -> ProcedureSpec:
    return load_spec(Path(ROOT / f"examples/{name}/procedure.yaml"))


def test_only_a_model_with_tools_is_served_with_the_parser() -> None:
    without, with_tools = (command(model_of(INPUTS, "models/1", "orders", tools=tools), ["--seed", "1"]) for tools in (False, True))
    assert not set(FLAGS) & set(without)
    assert with_tools == [*without[:-2], *FLAGS, *without[-2:]], "the author's arguments still come last"


@pytest.mark.parametrize("tools", [False, True])
def test_a_reference_is_served_as_it_was_trained(tools: bool) -> None:
    reference = Reference(role="Serving", run="orders-1", model_digest=f"sha256:{'0' * 64}", model_path="models/1", tools=tools)
    assert (FLAGS[0] in command(reference_model(reference, 0), [])) == tools


@pytest.mark.parametrize(("name", "annotated"), [("orders", True), ("travel", False)])
def test_the_frozen_input_says_whether_there_are_tools(name: str, annotated: bool) -> None:
    run = {
        "apiVersion": "subterra.dev/v1alpha1",
        "kind": "CompileRun",
        "metadata": {"name": "x-1", "namespace": "demo", "uid": "u"},
    }
    identity = RunIdentity(name="x-1", namespace="demo", uid="u")
    frozen = resolve(INPUTS, spec(name), f"sha256:{'0' * 64}", identity, store="file:///store")
    config = input_config_map(run, frozen)
    assert (TOOLS in annotations_of(config)) == annotated
    assert json.loads(config["data"]["input.json"])["procedure"]["start"] == "greet"


def test_an_author_may_set_the_flags_of_a_model_that_was_compiled_elsewhere() -> None:
    check_arguments(FLAGS)


def test_a_baseline_is_refused_where_there_are_tools() -> None:
    model = {"name": "anthropic", "model": "m"}
    content = {"procedureRef": {"name": "orders"}, "evaluation": {"baselines": [{"kind": "InContext", "provider": model}]}}
    inputs = CompileInputs.model_validate(content)
    assert tool_conflicts(inputs, has_tools=False) == ()
    [conflict] = tool_conflicts(inputs, has_tools=True)
    assert conflict.startswith("evaluation.baselines: baselines cannot call the tools")
