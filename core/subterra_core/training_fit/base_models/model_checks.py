"""Why a base model cannot be trained or served, by its files alone: file, field, value and fix, before money is spent. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from subterra_core.training_fit.base_models.chat_formats import chat_format_in, named_formats
from subterra_core.training_fit.base_models.model_files import ModelFiles

Fields = Mapping[str, Any]
OTHER_SENSES = ("vision_config", "audio_config", "speech_config", "thinker_config", "encoder_config")
"""Parts of models that also see, hear or translate."""
RENDERED_BY_VLLM = {"gpt_oss", "deepseek_v32", "deepseek_v4"}
"""Types whose chats vLLM 0.32 renders by code of its own, whatever template a model has."""
ENCODER_HEADS = {"BertLMHeadModel"}
"""Heads of models that look to both sides, although their name is that of a model that writes."""
LENGTH_FIELDS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "max_seq_length")
"""Of which vLLM takes the smallest as the longest conversation."""
SCALED_ALREADY = {"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"}
"""Kinds of scaled rotations whose lengths are those after scaling."""
TOKENIZERS = ({"tokenizer.json"}, {"tokenizer.model"}, {"tekken.json"}, {"vocab.json", "merges.txt"})
"""Sets of files of which each is a tokenizer."""


def model_problem(files: ModelFiles, max_length: int, *, weights: bool = True) -> str | None:
    """The first reason why this model cannot be trained on conversations of `max_length` tokens, with the fix; or `None`.

    Without ``weights`` the directory need not have any.
    """
    return next(_problems(files, max_length, weights=weights), None)


def _problems(files: ModelFiles, max_length: int, *, weights: bool) -> Iterator[str]:
    if "config.json" not in files.names:
        yield no_model(files.names)
        return
    if problem := config_problem(files.config, max_length):
        yield problem
    if weights:
        yield from _weight_problems(files)
    yield from _tokenizer_problems(files)


def config_problem(config: Fields, max_length: int) -> str | None:
    """The same as far as `config.json` tells."""
    checks = (_rendering_problem(config), _quantization_problem(config), _kind_problem(config), _length_problem(config, max_length))
    return next(filter(None, checks), None)


def no_model(names: frozenset[str]) -> str:
    """What a directory without `config.json` is instead."""
    if "adapter_config.json" in names:
        return "has adapter_config.json and no config.json: it is an adapter; merge it into its base model and name that"
    if any(name.endswith(".gguf") for name in names):
        return "has .gguf files and no config.json, and quantized weights are not trained; name the model's .safetensors original"
    if "snapshots" in names:
        return "is a folder of the hub's cache; name the folder of a revision in it: …/snapshots/REVISION"
    if names & {"params.json", "consolidated.safetensors", "consolidated.00.pth"}:
        return "has its maker's own format and no config.json; name the version for transformers, or convert it"
    return "has no config.json; name the folder that has config.json, tokenizer.json and .safetensors files"


def _rendering_problem(config: Fields) -> str | None:
    kind = config.get("model_type")
    if kind not in RENDERED_BY_VLLM:
        return None
    return (
        f"config.json: model_type is {kind}, whose chats vLLM renders by code of its own and not by the template that is trained; "
        "name another model"
    )


def _quantization_problem(config: Fields) -> str | None:
    found = config.get("quantization_config") or config.get("compression_config")
    if not found:
        return None
    method = found.get("quant_method") or found.get("quant_type") if isinstance(found, Mapping) else found
    return (
        f"config.json: quantization_config.quant_method is {method}, and quantized weights are not trained; name the version in "
        "bfloat16"
    )


def _kind_problem(config: Fields) -> str | None:
    """Only decoders of text are trained."""
    found = next((name for name in OTHER_SENSES if config.get(name)), None)
    if found or config.get("is_encoder_decoder"):
        return (
            f"config.json has {found or 'is_encoder_decoder: true'}, and only decoders of text alone are trained; name a text-only "
            "model of the family"
        )
    named = config.get("architectures") or ()
    name = str(named[0]) if named else ""
    writes = name.endswith(("ForCausalLM", "LMHeadModel")) and (name not in ENCODER_HEADS or config.get("is_decoder"))
    if not name or writes:
        return None
    return (
        f"config.json: architectures is [{name}], which has no output layer that writes text from left to right; name a model "
        "whose architecture ends with ForCausalLM"
    )


def _length_problem(config: Fields, max_length: int) -> str | None:
    """vLLM does not start with more tokens than these fields allow, and learned positions have no more rows."""
    own = config.get("text_config") or config
    lengths = {name: own[name] for name in LENGTH_FIELDS if isinstance(own.get(name), int)}
    if not lengths:
        return None
    name = min(lengths, key=lambda each: lengths[each])
    limit = int(lengths[name] * _scaling(own))
    if max_length <= limit:
        return None
    return (
        f"config.json: {name} allows conversations of {limit:,} tokens, and training.maxLength is {max_length:,}, with which vLLM "
        f"would not start after the training; set training.maxLength: {limit}, or less"
    )


def _scaling(config: Fields) -> float:
    """How many times longer than its length field scaled rotations make a model."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    factor = rope.get("factor")
    return float(factor) if factor and kind not in SCALED_ALREADY else 1.0


def _weight_problems(files: ModelFiles) -> Iterator[str]:
    if missing := sorted(files.shards - files.names):
        yield f"the weights' index names {missing[0]}, which is not there ({len(missing)} missing); copy it again"
    weights = {name for name in files.names if name.endswith(".safetensors")}
    if files.names & {"pytorch_model.bin", "pytorch_model.bin.index.json"}:
        return
    if not weights:
        others = sorted(name for name in files.names if name.endswith((".bin", ".gguf", ".pt", ".pth", ".onnx")))
        instead = f", but {others[0]}" if others else ""
        yield f"has no .safetensors weights{instead}; save the model with safe_serialization, or name a version that has them"
    elif not files.shards and "model.safetensors" not in weights:
        yield f"has {min(weights)} without model.safetensors.index.json, which says what is in which file; copy that too"


def _tokenizer_problems(files: ModelFiles) -> Iterator[str]:
    if not any(each <= files.names for each in TOKENIZERS):
        yield "has no tokenizer.json; add the tokenizer's files for transformers"
    if files.tokens is None:
        return
    chat = chat_format_in(files.tokens, files.chat_template)
    if chat is None:
        yield (
            "tokenizer.json has the tokens of no chat format that is trained; name an instruct model that has those of one "
            f"({named_formats()})"
        )
        return
    rows = (files.config.get("text_config") or files.config).get("vocab_size")
    beyond = next((token for token in chat.tokens if isinstance(rows, int) and files.tokens[token] >= rows), None)
    if beyond:
        yield (
            f"tokenizer.json: {beyond} has number {files.tokens[beyond]}, and config.json: vocab_size is {rows}, so the model has "
            "no row for it; save the model again after resize_token_embeddings"
        )
