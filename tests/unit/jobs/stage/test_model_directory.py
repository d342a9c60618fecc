"""A base model's directory is read before anything is spent: what is missing, damaged or closed is named with the fix."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.main import preflight
from subterra_jobs.stage import model_directory
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.model_directory import require_trainable
from subterra_testkit.runs.generation_inputs import run_input

HEADER = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
WEIGHTS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)
TOKENS = [{"id": number, "content": token} for number, token in enumerate(("<|im_start|>", "<|im_end|>"))]


def directory(folder: Path, **changes: Any) -> Path:
    """A model directory; ``changes`` are contents by name, with `_` in place of dots, and `None` for a file that is left out."""
    files: dict[str, Any] = {
        "config.json": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 2},
        "tokenizer.json": {"model": {"vocab": {}}, "added_tokens": TOKENS},
        "model.safetensors": WEIGHTS,
    }
    files |= {name.replace("_", "."): content for name, content in changes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if content is not None:
            (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def test_a_whole_directory_is_trained_and_so_is_one_of_links_as_the_hubs_cache_has_it(tmp_path: Path) -> None:
    whole = directory(tmp_path / "blobs")
    require_trainable(whole, "pvc://blobs", 4096)
    snapshot = tmp_path / "snapshots"
    snapshot.mkdir()
    for file in whole.iterdir():
        (snapshot / file.name).symlink_to(f"../blobs/{file.name}")
    require_trainable(snapshot, "pvc://snapshots", 4096)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"config_json": b"{"}, r"config\.json is not JSON .*; copy it again"),
        ({"config_json": []}, r"config\.json is not a JSON object; copy it again"),
        ({"config_json": None}, r"has no config\.json"),
        ({"model_safetensors": WEIGHTS[:-1]}, r"model\.safetensors has [\d,]+ bytes, and [\d,]+ by its header; copy it again"),
        (
            {"model_safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"},
            r"model\.safetensors is a pointer of Git LFS .* git lfs pull",
        ),
        ({"model_safetensors": b""}, r"model\.safetensors has no header"),
        ({"model_safetensors": b"\0" * 100}, r"model\.safetensors has no header"),
        ({"tokenizer_json": {"model": {"vocab": {"a": 0}}}}, r"tokenizer\.json has the tokens of no chat format"),
    ],
)
def test_a_damaged_directory_is_refused_with_model_file_and_fix(tmp_path: Path, changes: dict[str, Any], refusal: str) -> None:
    with pytest.raises(InvalidInputError, match=f"base model pvc://mine: {refusal}"):
        require_trainable(directory(tmp_path, **changes), "pvc://mine", 4096)


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    copied = directory(tmp_path, model_safetensors=None)
    (copied / "model.safetensors").symlink_to("../../blobs/0123")
    with pytest.raises(InvalidInputError, match=r"model\.safetensors is a link to \.\./\.\./blobs/0123, which is not there; copy"):
        require_trainable(copied, "pvc://mine", 4096)


def test_files_of_another_owner_are_named_with_the_command_that_opens_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = directory(tmp_path) / "model.safetensors"
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed)  # root may read everything
    with pytest.raises(InvalidInputError, match=r"model\.safetensors may not be read by user \d+; run chmod"):
        require_trainable(tmp_path, "pvc://mine", 4096)


def test_a_model_on_the_volume_is_checked_before_a_teacher_is_paid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_directory, "STORE_MOUNT", str(tmp_path))
    directory(tmp_path / "whole")
    directory(tmp_path / "quantized", config_json={"quantization_config": {"quant_method": "gptq"}})
    run, environment = run_input(tmp_path), StageEnvironment()

    def check(uri: str) -> None:
        preflight(run.model_copy(update={"base_model": run.base_model.model_copy(update={"uri": uri})}), environment)

    check("pvc://whole")
    with pytest.raises(InvalidInputError, match=r"base model pvc://quantized: config\.json: .* is gptq"):
        check("pvc://quantized")
    with pytest.raises(InvalidInputError, match="no model directory typo on the store's volume"):
        check("pvc://typo")
