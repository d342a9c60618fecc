"""Exported files that other versions read: both spellings, no class that only one version has, limits that vLLM obeys, a card."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.messages import Lora
from subterra_jobs.train.model.model_card import CARD_FILE, copy_license, model_card, write_card
from subterra_jobs.train.model.portable_files import generation_defaults, make_portable, portable_config, portable_tokenizer
from subterra_jobs.train.training import TrainingSummary
from subterra_testkit.runs.generation_inputs import run_input

SUMMARY = TrainingSummary(95, "bfloat16", 80, 0.5, 0.25, 123456, 0, 60.0)
OBEYED_BY_VLLM = {"repetition_penalty", "presence_penalty", "frequency_penalty", "temperature", "top_k", "top_p", "min_p"}
"""Of vLLM 0.32, besides `max_new_tokens` (`ModelConfig.get_diff_sampling_param`)."""


def config(**rope: Any) -> dict[str, Any]:
    return {"model_type": "qwen3", "dtype": "bfloat16", "use_cache": False, "rope_parameters": rope}


def test_the_base_of_the_rotations_is_in_the_spelling_of_version_4_too() -> None:
    written = portable_config(config(rope_theta=1000000, rope_type="default"))
    assert (written["rope_theta"], written["rope_parameters"]["rope_theta"]) == (1000000, 1000000)
    assert "rope_scaling" not in written
    assert (written["torch_dtype"], written["dtype"], written["use_cache"]) == ("bfloat16", "bfloat16", True)


def test_scaled_rotations_are_in_both_spellings() -> None:
    written = portable_config(config(rope_theta=10000.0, rope_type="yarn", factor=4.0))
    assert written["rope_scaling"] == {"rope_type": "yarn", "factor": 4.0}


def test_rotations_by_kind_of_layer_are_in_the_spelling_of_version_4_too() -> None:
    layers = {"full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0}, "sliding_attention": {"rope_theta": 1e4}}
    written = portable_config({"model_type": "gemma3_text", "rope_parameters": layers})
    assert (written["rope_theta"], written["rope_local_base_freq"]) == (1e6, 1e4)
    assert written["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}
    assert written["rope_parameters"] == layers


def test_code_of_the_base_model_and_a_length_of_its_tokenizer_are_not_named() -> None:
    assert "auto_map" not in portable_config({"model_type": "phi3", "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}})
    fields = {"auto_map": {"AutoTokenizer": ["tokenization.T", None]}, "model_max_length": 512, "eos_token": "<|end|>"}
    assert set(portable_tokenizer(fields)) == {"eos_token", "tokenizer_class"}


@pytest.mark.parametrize("name", ["TokenizersBackend", "Qwen2Tokenizer", "PreTrainedTokenizerFast"])
def test_a_tokenizer_is_that_of_its_file_in_every_version(name: str) -> None:
    fields = {"tokenizer_class": name, "backend": "tokenizers", "extra_special_tokens": ["<|im_start|>"], "eos_token": "<|im_end|>"}
    assert portable_tokenizer(fields) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<|im_start|>"],
        "eos_token": "<|im_end|>",
    }


def test_a_reply_is_the_likeliest_one_to_a_limit_in_words_that_vllm_obeys() -> None:
    written = generation_defaults({"eos_token_id": 2}, 400)
    assert (written["top_k"], written["max_new_tokens"], written["eos_token_id"]) == (1, 400, 2)
    assert set(written) - OBEYED_BY_VLLM == {"do_sample", "max_new_tokens", "eos_token_id"}


def test_a_directory_is_rewritten_once_and_for_all(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config(rope_theta=1.0, rope_type="default")))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "generation_config.json").write_text("{}")
    make_portable(tmp_path, 400)
    once = {file.name: file.read_text() for file in tmp_path.iterdir()}
    make_portable(tmp_path, 400)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == once
    assert json.loads(once["generation_config.json"])["max_new_tokens"] == 400


def test_a_card_says_what_a_model_was_made_from_and_how_well_it_learned(tmp_path: Path) -> None:
    run = run_input(tmp_path)
    write_card(tmp_path, run, SUMMARY)
    text = (tmp_path / CARD_FILE).read_text()
    for part in (run.procedure_digest, run.keys.dataset, run.base_model.uri, "0.2500 nats", "0.5000 nats", "| best step | 80 |"):
        assert part in text
    assert text == model_card(run, SUMMARY), "the same training has the same card, since the model's digest covers it"
    assert run.run.name not in text


def test_a_card_names_the_adapters_of_a_training_that_had_some_and_no_method_of_one_that_had_none(tmp_path: Path) -> None:
    run = run_input(tmp_path)
    assert not re.search(r"method|lora|peft", model_card(run, SUMMARY))
    adapted = run.training.model_copy(update={"method": "lora", "lora": Lora(rank=32, alpha=64)})
    text = model_card(run.model_copy(update={"training": adapted}), SUMMARY)
    for row in ("| method | lora |", "| lora rank | 32 |", "| lora alpha | 64 |", "| peft | "):
        assert row in text


def test_the_license_of_the_base_model_comes_along(tmp_path: Path) -> None:
    base, model = tmp_path / "base", tmp_path / "model"
    base.mkdir()
    model.mkdir()
    copy_license(base, model)
    assert list(model.iterdir()) == []
    for name in ("LICENSE", "NOTICE.txt", "README.md"):
        (base / name).write_text(name)
    copy_license(base, model)
    assert {file.name: file.read_text() for file in model.iterdir()} == {"LICENSE": "LICENSE", "NOTICE.txt": "NOTICE.txt"}
