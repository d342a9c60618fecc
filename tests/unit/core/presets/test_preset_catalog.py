"""Presets: complete, valid, planned truly, and copied rather than referred to."""

import json

import pytest
import yaml

from subterra_api.digest import run_digest
from subterra_api.job_contract.defaults import generation_of, training_of
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import CompileRunSpec
from subterra_api.v1alpha1.training_settings import TrainingSettings
from subterra_core.node_pools import NodePool
from subterra_core.presets.preset_catalog import Preset, UnknownPresetError, preset_named, presets
from subterra_core.training_fit.fit_refusal import training_problem
from subterra_operator.decide.unrunnable import serving_problems, stage_problems
from subterra_operator.settings import Settings
from subterra_operator.specs.compile_run import compile_run
from subterra_testkit.cluster import kubernetes_objects as make

EVERY = pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)


def spec_of(preset: Preset) -> CompiledAgentSpec:
    return CompiledAgentSpec.model_validate(preset.manifest("travel", "travel")["spec"])


def settings(preset: Preset) -> Settings:
    """A cluster that has what the preset needs."""
    card = preset.card
    pool = NodePool(gpu_type=card.name, gpus_per_node=8) if card else NodePool()
    return Settings(jobs_gpu_image="jobs-gpu:1", pools={preset.pool: pool} if preset.pool else {})


@EVERY
def test_a_preset_leaves_no_hyperparameter_to_defaults(preset: Preset) -> None:
    template = preset.run_template
    assert template.training.method == "full"
    free = {"seed", "max_steps", "lora"}
    assert {name for name, value in template.training if value is None} <= free
    assert template.generation.conversations
    assert template.generation.held_out_percent


@EVERY
def test_every_preset_fits_and_the_operator_runs_it(preset: Preset) -> None:
    agent = preset.manifest("travel", "travel")
    agent["metadata"] |= {"namespace": "demo", "uid": "u"}
    spec, cluster = spec_of(preset), settings(preset)
    assert spec.compile
    run = CompileRunSpec.model_validate(compile_run(agent, spec, spec.compile, make.TRAVEL_DIGEST)["spec"])
    problems = [problem for stage in ("generate", "train", "evaluate") for problem in stage_problems(stage, run, cluster)]
    assert (problems, preset.plan.misfit) == ([], None)
    assert [*serving_problems(spec.serving, cluster)] == []
    assert training_problem(run.inputs, run.execution.train, cluster.pools) is None


@EVERY
def test_a_preset_asks_for_enough_memory_store_and_room_on_the_node(preset: Preset) -> None:
    assert preset.plan.warnings == ()
    train = preset.run_template.execution.train.resources
    assert set(train.requests) >= {"cpu", "memory", "ephemeral-storage"}
    assert set(train.limits) >= {"memory", "ephemeral-storage"}


@EVERY
def test_a_manifest_has_values_and_no_name_of_a_preset_so_that_a_later_version_compiles_the_same(preset: Preset) -> None:
    manifest = preset.manifest("travel", "travel")
    assert "preset" not in json.dumps(manifest)
    assert yaml.safe_load(yaml.safe_dump(manifest)) == manifest


def test_presets_for_the_base_models_that_have_defaults_are_those_defaults() -> None:
    for name, kind in (("scratch-cpu", "scratch"), ("smollm2-cpu", "bundled")):
        template = preset_named(name).run_template
        assert training_of(template.training, kind) == training_of(TrainingSettings(), kind)
        assert generation_of(template.generation, kind) == generation_of(type(template.generation)(), kind)


def test_another_pool_and_other_resources_are_the_same_run() -> None:
    preset = preset_named("qwen2.5-3b-1xh200")
    runs = set()
    for manifest in (preset.manifest("travel", "travel"), preset.manifest("travel", "travel", pool="mine")):
        source = CompiledAgentSpec.model_validate(manifest["spec"]).compile
        assert source
        inputs = {key: value for key, value in source.template.dump().items() if key != "execution"}
        typed = CompileRunSpec.model_validate({"inputs": {**inputs, "procedureRef": {"name": "travel"}}}).inputs
        runs.add(run_digest(make.TRAVEL_DIGEST, typed))
        pools = {source.template.execution.train.pool, source.template.execution.evaluate.pool, manifest["spec"]["serving"]["pool"]}
        assert len(pools) == 1
    assert len(runs) == 1


def test_an_unknown_preset_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UnknownPresetError, match="there is no preset llama; there are scratch-cpu, smollm2-cpu, qwen2"):
        preset_named("llama")
