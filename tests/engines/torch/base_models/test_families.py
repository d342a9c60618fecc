"""Every family learns from a batch what it learns from its conversations one by one, by the attention that it is served with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.granite_swa import GraniteSWAConfig, GraniteSWAForCausalLM

from subterra_jobs.train.batches.collators import PaddingCollator, in_one_row
from subterra_jobs.train.batches.segmented_attention import use_segments
from subterra_jobs.train.model.base_model import load_model, load_tokenizer
from subterra_jobs.train.model.refusals import exact_attention
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer
from subterra_jobs.train.tokenized_dataset import Example, encode
from subterra_testkit.runs.small_models import SIZES, label_gradients, small_llama
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT, WORDINGS, conversation

TOKENIZER = scratch_tokenizer(WORDINGS, SYSTEM_PROMPT)
SMALL: dict[str, Any] = SIZES | {"vocab_size": len(TOKENIZER), "pad_token_id": 0}
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


@pytest.mark.parametrize("family", [*IN_ONE_ROW, *PADDED])
def test_gradients_of_a_batch_are_those_of_its_conversations(family: str) -> None:
    torch.manual_seed(1)
    config = AutoConfig.for_model(family, **SMALL | IN_ONE_ROW.get(family, {}) | PADDED.get(family, {}))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **exact_attention(config))
    alone = label_gradients(model, [PaddingCollator(0)([example]) for example in examples()])
    segments = use_segments(model)
    assert segments == (family in IN_ONE_ROW)
    together = label_gradients(model, [in_one_row(examples()) if segments else PaddingCollator(0)(examples())])
    assert together.keys() == alone.keys()
    scale = max(float(gradient.abs().max()) for gradient in alone.values())
    assert max(float((together[name] - gradient).abs().max()) for name, gradient in alone.items()) <= 1e-5 * scale


def test_attention_with_sinks_keeps_its_own_code() -> None:
    config = GraniteSWAConfig(**SMALL | HEADS, layer_types=["full_attention"] * 2, sliding_window=None)
    assert not use_segments(GraniteSWAForCausalLM(config))


def test_capped_attention_is_loaded_with_its_cap(tmp_path: Path) -> None:
    folder = str(small_llama(tmp_path))
    config = AutoConfig.for_model("gemma2", **SMALL | WINDOW | {"vocab_size": 1000})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    model = load_model(folder, load_tokenizer(folder, SYSTEM_PROMPT, ()), seed=0)
    assert (model.config.attn_logit_softcapping, model.config._attn_implementation) == (50.0, "eager")
