"""A model directory as a pretrained chat model has it, but small and with random weights."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from subterra_jobs.train.model.chat_template import IM_END, IM_START, PAD
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT, WORDINGS


def small_llama(folder: Path, layers: int = 2) -> Path:
    """Writes a Llama with ChatML tokens to ``folder`` and returns that. As in SmolLM2, padding is the token that ends a turn."""
    words = scratch_tokenizer(WORDINGS, SYSTEM_PROMPT).backend_tokenizer
    tokens = {"bos_token": IM_START, "eos_token": IM_END, "pad_token": IM_END, "unk_token": PAD}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **tokens)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
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
