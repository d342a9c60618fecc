"""Every family learns from a batch what it learns from its conversations one by one, by the attention that it is served with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.granite_swa import GraniteSWAConfig, GraniteSWAForCausalLM

from subterra_jobs.train.batches.collators import PaddingCollator, in_one_row
from subterra_jobs.train.batches.segmented_attention import use_segments
from subterra_jobs.train.model.base_model import load_model, load_tokenizer
from subterra_jobs.train.model.refusals import exact_attention
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer
from subterra_jobs.train.tokenized_dataset import IGNORED, Example, encode
from subterra_testkit.runs.small_llama import small_llama
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT, WORDINGS, conversation

TOKENIZER = scratch_tokenizer(WORDINGS, SYSTEM_PROMPT)
SIZES: dict[str, Any] = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
HEADS = {"head_dim": 16}
WINDOW = HEADS | {"sliding_window": 16}
STATES = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_expand": 2}
IN_ONE_ROW: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": HEADS,
    "qwen3_moe": HEADS | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "smollm3": {},
    "olmo2": {},
    "granite": {},
    "phi3": {},
}
PADDED: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 16},
    "ministral": WINDOW,
    "gemma2": WINDOW,
    "gemma3_text": WINDOW,
    "olmo3": {},
    "stablelm": {},
    "falcon_h1": HEADS | STATES | {"mamba_d_ssm": 128},
    "granitemoehybrid": STATES | {"layer_types": ["mamba", "attention"], "num_local_experts": 0},
}


def examples() -> list[Example]:
    return [
        encode(TOKENIZER, conversation(city, opener=None)) for city in ("Rome", "San Pedro de Atacama on the way to Antofagasta")
    ]


def gradients(model: PreTrainedModel, batches: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Gradients of the summed loss of all labels."""
    model.zero_grad()
    for batch in batches:
        labels = batch["labels"][:, 1:]
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = model(**inputs, use_cache=False).logits[:, :-1]
        torch.nn.functional.cross_entropy(logits[labels != IGNORED], labels[labels != IGNORED], reduction="sum").backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("family", [*IN_ONE_ROW, *PADDED])
def test_gradients_of_a_batch_are_those_of_its_conversations(family: str) -> None:
    torch.manual_seed(1)
    config = AutoConfig.for_model(family, **SIZES | IN_ONE_ROW.get(family, {}) | PADDED.get(family, {}))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **exact_attention(config))
    alone = gradients(model, [PaddingCollator(0)([example]) for example in examples()])
    segments = use_segments(model)
    assert segments == (family in IN_ONE_ROW)
    together = gradients(model, [in_one_row(examples()) if segments else PaddingCollator(0)(examples())])
    assert together.keys() == alone.keys()
    scale = max(float(gradient.abs().max()) for gradient in alone.values())
    assert max(float((together[name] - gradient).abs().max()) for name, gradient in alone.items()) <= 1e-5 * scale


def test_attention_with_sinks_keeps_its_own_code() -> None:
    config = GraniteSWAConfig(**SIZES | HEADS, layer_types=["full_attention"] * 2, sliding_window=None)
    assert not use_segments(GraniteSWAForCausalLM(config))


def test_capped_attention_is_loaded_with_its_cap(tmp_path: Path) -> None:
    folder = str(small_llama(tmp_path))
    config = AutoConfig.for_model("gemma2", **SIZES | WINDOW | {"vocab_size": 1000})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    model = load_model(folder, load_tokenizer(folder, SYSTEM_PROMPT, ()), seed=0)
    assert (model.config.attn_logit_softcapping, model.config._attn_implementation) == (50.0, "eager")
