"""Where a base model is looked for, and what its author reads when it is not there."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import fsspec
import pytest
from pydantic import ValidationError

from subterra_api.v1alpha1.compilerun import BaseModelSource
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.stage import model_directory
from subterra_jobs.stage.runner import StageContext
from subterra_jobs.train.source.base_model_source import base_model


def resolve_base_model(uri: str, models: Path) -> str:
    """The model's directory, for a pod with these bundled models."""
    environment, training = SimpleNamespace(models=models), SimpleNamespace(max_length=4096)
    context = SimpleNamespace(environment=environment, input=SimpleNamespace(training=training))
    return base_model(uri, cast("StageContext", context))


SMOLLM2 = "bundled://SmolLM2-135M-Instruct"


def test_a_bundled_model_is_its_directory_in_the_image(tmp_path: Path) -> None:
    (tmp_path / "SmolLM2-135M-Instruct").mkdir()
    assert resolve_base_model(SMOLLM2, tmp_path) == str(tmp_path / "SmolLM2-135M-Instruct")


def test_a_bundled_model_that_the_image_lacks_is_refused_with_the_names_of_those_that_it_has(tmp_path: Path) -> None:
    for name in ("other-model", "all-MiniLM-L6-v2"):
        (tmp_path / name).mkdir()
    (tmp_path / "LICENSE").touch()
    refusal = f"no model SmolLM2-135M-Instruct in {tmp_path}, but all-MiniLM-L6-v2, other-model; use another image or baseModel.uri"
    with pytest.raises(InvalidInputError, match=refusal):
        resolve_base_model(SMOLLM2, tmp_path)


def test_an_image_without_models_says_so(tmp_path: Path) -> None:
    missing = tmp_path / "models"
    with pytest.raises(InvalidInputError, match=f"no model SmolLM2-135M-Instruct in {missing}, but no model;"):
        resolve_base_model(SMOLLM2, missing)


def test_other_addresses_need_no_bundled_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = tmp_path / "models"
    assert resolve_base_model("scratch", nowhere) == "scratch"
    monkeypatch.setattr(model_directory, "STORE_MOUNT", str(tmp_path))
    (tmp_path / "mine").mkdir()
    assert resolve_base_model("pvc://mine", nowhere) == str(tmp_path / "mine")
    for missing in ("yours", "../mine", "mine/../../mine"):
        with pytest.raises(InvalidInputError, match=f"no model directory {missing} on the store's volume"):
            resolve_base_model(f"pvc://{missing}", nowhere)


@pytest.mark.parametrize(
    "uri",
    [
        "bundled://",
        "bundled://SmolLM2",
        "bundled://SmolLM2-135M-Instruct/",
        "bundled://../../etc",
        "bundled://all-MiniLM-L6-v2",
        "bundled://SmolLM2-135M-Instruct\n",
        "Bundled://SmolLM2-135M-Instruct",
        "SmolLM2-135M-Instruct",
    ],
)
def test_the_api_refuses_a_name_that_no_image_bundles(uri: str) -> None:
    with pytest.raises(ValidationError, match="string_pattern_mismatch"):
        BaseModelSource(uri=uri)


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("scratch", "scratch"),
        (SMOLLM2, "bundled"),
        ("hf://Qwen/Qwen3-8B", "external"),
        ("pvc://m", "external"),
        ("s3://b/m", "external"),
    ],
)
def test_the_kind_of_a_base_model_is_where_it_comes_from(uri: str, kind: str) -> None:
    assert BaseModelSource(uri=uri).kind == kind


def test_a_model_in_object_storage_is_checked_before_its_weights_are_copied(tmp_path: Path) -> None:
    files, _ = fsspec.url_to_fs("memory://models")
    tokens = [{"id": number, "content": token} for number, token in enumerate(("<|im_start|>", "<|im_end|>"))]
    for name, content in (("config", {}), ("tokenizer", {"added_tokens": tokens})):
        files.pipe(f"/models/mine/{name}.json", json.dumps(content).encode())
    with pytest.raises(InvalidInputError, match=r"base model memory://models/mine: has no \.safetensors weights"):
        resolve_base_model("memory://models/mine", tmp_path)
    files.pipe("/models/mine/model.safetensors", b"weights")
    copied = Path(resolve_base_model("memory://models/mine", tmp_path))
    assert sorted(file.name for file in copied.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    files.pipe("/models/mine/config.json", json.dumps({"quantization_config": {"quant_method": "fp8"}}).encode())
    with pytest.raises(InvalidInputError, match="quant_method is fp8"):
        resolve_base_model("memory://models/mine", tmp_path)
    with pytest.raises(InvalidInputError, match="there is nothing at memory://models/yours"):
        resolve_base_model("memory://models/yours", tmp_path)
