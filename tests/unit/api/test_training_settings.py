"""LoRA is asked for by name, with defaults of its own, and changes no name or key of a full training."""

from typing import Any

import pytest
from pydantic import ValidationError

from subterra_api.digest import run_digest
from subterra_api.job_contract.defaults import training_of
from subterra_api.job_contract.messages import Lora, Training
from subterra_api.v1alpha1.compiledagent import RunTemplate
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.training_settings import TrainingSettings

BUNDLED = {"uri": "bundled://SmolLM2-135M-Instruct"}


def inputs(**training: Any) -> CompileInputs:
    return CompileInputs.model_validate({"procedureRef": {"name": "travel"}, "baseModel": BUNDLED, "training": training})


def test_a_full_training_has_the_name_and_the_key_that_it_had_before_there_was_another_method() -> None:
    assert run_digest("sha256:a", inputs(method="full")) == run_digest("sha256:a", inputs())
    fields = training_of(TrainingSettings(), "bundled").model_dump(mode="json", by_alias=True)
    assert not {"method", "lora"} & set(fields)


def test_every_setting_of_the_adapters_makes_another_run_and_another_model() -> None:
    variants = [inputs(), inputs(method="lora"), *(inputs(method="lora", lora=each) for each in ({"rank": 16}, {"alpha": 16}))]
    assert len({run_digest("sha256:a", variant) for variant in variants}) == 4
    effective = [str(training_of(variant.training, "bundled").model_dump(mode="json")) for variant in variants]
    assert len(set(effective)) == 4


def test_adapters_learn_ten_times_faster_and_are_scaled_with_their_rank_unless_the_author_says_otherwise() -> None:
    full = training_of(TrainingSettings(), "external")
    lora = training_of(TrainingSettings(method="lora"), "external")
    assert lora.learning_rate == pytest.approx(10 * full.learning_rate)
    assert lora.lora == Lora(rank=64, alpha=128)
    said = TrainingSettings.model_validate({"method": "lora", "learningRate": 1e-4, "lora": {"rank": 16, "alpha": 20}})
    assert training_of(said, "external").learning_rate == 1e-4
    assert training_of(said, "external").lora == Lora(rank=16, alpha=20)


def test_the_settings_survive_the_way_to_the_ranks() -> None:
    settings = training_of(TrainingSettings(method="lora"), "bundled")
    assert Training(**settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("training", "refusal"),
    [
        ({"method": "lora", "optimizer": "muon"}, "lora needs optimizer: adamw"),
        ({"lora": {"rank": 32}}, "set method: lora, or remove lora"),
        ({"method": "full", "lora": {}}, "set method: lora, or remove lora"),
        ({"method": "lora", "lora": {"rank": 8}}, "greater than or equal to 16"),
        ({"method": "lora", "lora": {"rank": 256}}, "less than or equal to 128"),
    ],
)
def test_combinations_that_do_not_work_are_refused_in_words(training: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ValidationError, match=refusal):
        inputs(**training)


@pytest.mark.parametrize("base", [{}, {"baseModel": {"uri": "scratch"}}])
def test_adapters_of_a_model_that_knows_nothing_are_refused_for_runs_and_agents(base: dict[str, Any]) -> None:
    settings = {"training": {"method": "lora"}, **base}
    for model, more in ((RunTemplate, {}), (CompileInputs, {"procedureRef": {"name": "travel"}})):
        with pytest.raises(ValidationError, match=r"needs a pretrained base model.*name a model in baseModel\.uri"):
            model.model_validate(settings | more)


@pytest.mark.parametrize("optimizer", ["adamw8bit", "adamwbf16"])
def test_an_optimizer_without_a_float32_copy_of_the_weights_divides_nothing_and_refuses_what_it_cannot_do(optimizer: str) -> None:
    for kind in ("bundled", "external"):
        assert training_of(inputs(optimizer=optimizer).training, kind).zero_stage == 0
    assert training_of(inputs(optimizer=optimizer, zeroStage=0).training, "external").zero_stage == 0
    with pytest.raises(
        ValidationError, match=rf"zeroStage: 3 .* optimizer: {optimizer} has none; set zeroStage: 0, or optimizer: adamw"
    ):
        inputs(optimizer=optimizer, zeroStage=3)
    with pytest.raises(ValidationError, match=r"method: lora needs optimizer: adamw: .*; remove optimizer"):
        inputs(optimizer=optimizer, method="lora")
    with pytest.raises(
        ValidationError, match=r"needs a pretrained base model.*name a model in baseModel\.uri, or remove optimizer"
    ):
        RunTemplate.model_validate({"training": {"optimizer": optimizer}})


def test_another_optimizer_is_another_run_and_the_default_is_the_one_that_it_was() -> None:
    assert training_of(inputs().training, "bundled").optimizer == "adamw"
    digests = {run_digest("sha256:a", inputs(optimizer=each)) for each in ("adamw", "adamw8bit", "adamwbf16", "muon")}
    assert len(digests) == 4
