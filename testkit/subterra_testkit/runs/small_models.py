"""Chat models as they come pretrained, but small and with random weights, and what they learn from a batch."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from subterra_jobs.train.model.chat_template import IM_END, IM_START, PAD
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer
from subterra_jobs.train.tokenized_dataset import IGNORED
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT, WORDINGS

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
"""Fields of a `config.json` that most families have."""


def small_llama(folder: Path, layers: int = 2) -> Path:
    """Writes a Llama with ChatML tokens to ``folder`` and returns that. As in SmolLM2, padding is the token that ends a turn."""
    words = scratch_tokenizer(WORDINGS, SYSTEM_PROMPT).backend_tokenizer
    tokens = {"bos_token": IM_START, "eos_token": IM_END, "pad_token": IM_END, "unk_token": PAD}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **tokens)
    config = LlamaConfig(
        **SIZES | {"num_hidden_layers": layers},
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def label_gradients(model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Gradients, by parameter, of the summed loss of all labels in the batches."""
    model.zero_grad()
    for batch in batches:
        labels = batch["labels"][:, 1:]
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = model(**inputs, use_cache=False).logits[:, :-1]
        torch.nn.functional.cross_entropy(logits[labels != IGNORED], labels[labels != IGNORED], reduction="sum").backward()  # type: ignore[no-untyped-call]
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
