"""A base model that cannot be trained or served is refused by its files alone, with file, field, value and fix."""

import re
from collections.abc import Iterable
from typing import Any

import pytest

from subterra_core.training_fit.base_models.chat_formats import CHAT_FORMATS, chat_format_ended_by, chat_format_in
from subterra_core.training_fit.base_models.model_checks import config_problem, model_problem
from subterra_core.training_fit.base_models.model_files import ModelFiles, added_tokens_of, template_of, tokens_of

QWEN = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 1000, "max_position_embeddings": 40960}
NAMES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "generation_config.json")
CHATML_TOKENS = {"<|im_start|>": 998, "<|im_end|>": 999}


def model(
    config: dict[str, Any] | None = None,
    names: Iterable[str] = NAMES,
    tokens: dict[str, int] | None = None,
    shards: Iterable[str] = (),
) -> ModelFiles:
    return ModelFiles(frozenset(names), QWEN | (config or {}), frozenset(shards), CHATML_TOKENS if tokens is None else tokens)


def test_a_complete_directory_of_a_known_family_is_trained() -> None:
    assert model_problem(model(), 4096) is None
    index = ("model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors")
    sharded = model(names=[*NAMES[:3], *index], shards=index[1:])
    assert model_problem(sharded, 4096) is None


@pytest.mark.parametrize(
    ("config", "refusal"),
    [
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, r"quantization_config\.quant_method is awq, .*in bfloat16$"),
        ({"quantization_config": {"quant_method": "fp8"}}, "is fp8"),
        (
            {"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}},
            "model_type is gpt_oss, whose chats vLLM renders",
        ),
        ({"model_type": "qwen2_5_vl", "vision_config": {"depth": 32}}, "has vision_config, and only decoders of text"),
        ({"model_type": "gemma3", "text_config": {}, "vision_config": {"x": 1}}, "has vision_config"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "has is_encoder_decoder: true"),
        ({"architectures": ["BertForMaskedLM"]}, r"architectures is \[BertForMaskedLM\].*ends with ForCausalLM"),
        ({"architectures": ["BertLMHeadModel"]}, r"\[BertLMHeadModel\]"),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "no output layer"),
        ({"architectures": ["Qwen2Model"]}, "no output layer"),
        ({"max_position_embeddings": 2048}, r"max_position_embeddings allows .* 2,048 .* 4,096.*set training\.maxLength: 2048"),
        ({"max_position_embeddings": None, "n_positions": 1024}, r"n_positions allows .*set training\.maxLength: 1024"),
        ({"max_position_embeddings": 512, "rope_scaling": {"type": "linear", "factor": 4.0}}, "allows conversations of 2,048"),
        ({"max_position_embeddings": 2048, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "allows conversations of 2,048"),
    ],
)
def test_what_the_configuration_tells_is_refused_with_field_value_and_fix(config: dict[str, Any], refusal: str) -> None:
    assert re.search(refusal, str(model_problem(model(config), 4096)))


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["GPT2LMHeadModel"]},
        {"architectures": None},
        {"max_position_embeddings": 2048, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        {"max_position_embeddings": 4096, "rope_parameters": {"full_attention": {"rope_theta": 1e6, "factor": 8.0}}},
        {"quantization_config": None},
    ],
)
def test_what_is_merely_unusual_is_trained(config: dict[str, Any]) -> None:
    assert model_problem(model(config), 4096) is None


@pytest.mark.parametrize(
    ("files", "refusal"),
    [
        (model(names=["adapter_config.json", "adapter_model.safetensors"]), "it is an adapter; merge it"),
        (model(names=["q4_k_m.gguf"]), r"has \.gguf files and no config\.json"),
        (model(names=["blobs", "refs", "snapshots"]), r"name the folder of a revision in it: …/snapshots/REVISION"),
        (model(names=["params.json", "consolidated.safetensors", "tekken.json"]), "its maker's own format"),
        (model(names=["README.md"]), r"has no config\.json; name the folder"),
        (model(names=NAMES[:3]), r"has no \.safetensors weights; save"),
        (model(names=[*NAMES[:3], "model.gguf"]), r"has no \.safetensors weights, but model\.gguf"),
        (model(names=[*NAMES[:3], "model-00001-of-00002.safetensors"]), "which says what is in which file"),
        (
            model(
                names=[*NAMES[:3], "model.safetensors.index.json", "model-1.safetensors"],
                shards=["model-1.safetensors", "model-2.safetensors"],
            ),
            r"names model-2\.safetensors, which is not there \(1 missing\)",
        ),
        (model(names=["config.json", "model.safetensors"]), r"has no tokenizer\.json; add"),
        (model(tokens={"<s>": 1}), r"no chat format that is trained.*ChatML: <\|im_start\|> <\|im_end\|>; Llama 3: "),
        (
            model(tokens={"<|im_start|>": 998, "<|im_end|>": 1000}),
            r"<\|im_end\|> has number 1000, and config\.json: vocab_size is 1000",
        ),
    ],
)
def test_what_a_directory_lacks_is_named_with_the_fix(files: ModelFiles, refusal: str) -> None:
    assert re.search(refusal, str(model_problem(files, 4096)))


def test_before_the_weights_are_there_the_rest_is_checked() -> None:
    assert model_problem(model(names=NAMES[:3]), 4096, weights=False) is None
    assert model_problem(model(names=NAMES[:3], tokens={}), 4096, weights=False)


def test_a_configuration_alone_is_checked_as_far_as_it_goes() -> None:
    assert config_problem({}, 4096) is None
    assert config_problem(QWEN, 40961)


def test_tokens_are_found_in_tokenizers_of_every_kind() -> None:
    added = [{"id": 7, "content": "<|im_end|>"}]
    assert tokens_of({"model": {"vocab": {"a": 0}}, "added_tokens": added}) == {"a": 0, "<|im_end|>": 7}
    assert tokens_of({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.5]]}}) == {"<unk>": 0, "a": 1}
    assert tokens_of({}) == {}
    assert added_tokens_of({"added_tokens_decoder": {"32000": {"content": "<|im_end|>", "special": True}}}) == {"<|im_end|>": 32000}


def test_of_several_formats_in_a_vocabulary_that_of_the_models_own_template_is_taken() -> None:
    llama = {token: number for number, token in enumerate(CHAT_FORMATS[1].tokens)}
    both = llama | CHATML_TOKENS
    assert [found.name for template in ("", "{{ '<|start_header_id|>' }}") if (found := chat_format_in(both, template))] == [
        "ChatML",
        "Llama 3",
    ]
    named = {"chat_template": [{"name": "default", "template": "<|start_header_id|>"}, {"name": "tool_use", "template": ""}]}
    assert "<|start_header_id|>" in template_of(named)


def test_each_format_is_known_by_the_end_of_its_turns() -> None:
    assert [chat_format_ended_by(each.end) for each in CHAT_FORMATS] == list(CHAT_FORMATS)
    assert all(each.end in each.tokens and each.agent.after.startswith(each.end) for each in CHAT_FORMATS)
