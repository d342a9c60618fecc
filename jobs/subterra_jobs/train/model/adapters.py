"""LoRA: low-rank adapters next to the frozen linear layers of a model, and how they become ordinary weights at the end.

The paper reports that this does not reach a training of all weights; it is here so that anybody can compare, through the same gate.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from subterra_api.job_contract.messages import Lora


def lora_config(lora: Lora) -> LoraConfig:
    """Adapters of all linear layers; the output layer is not one of them. They begin as no change at all."""
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", target_modules="all-linear"
    )


def adapter_parameters(model: PreTrainedModel, rank: int) -> int:
    """Number of parameters of such adapters, before there are any, and whether or not ZeRO-3 has divided the model's."""
    return sum(rank * (layer.in_features + layer.out_features) for layer in _adapted(model))


def _adapted(model: PreTrainedModel) -> Iterator[torch.nn.Linear]:
    output = model.get_output_embeddings()
    return (layer for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer is not output)


def export_merged(base: PreTrainedModel, adapters: Path, tokenizer: PreTrainedTokenizerBase, output: Path) -> None:
    """Writes a complete Hugging Face model directory to ``output``: ``base`` with the adapters added to its weights.

    It has the files and the architecture of any other model. ``base`` is changed.
    """
    merged = PeftModel.from_pretrained(base, adapters, autocast_adapter_dtype=False).merge_and_unload()
    merged.save_pretrained(output)
    tokenizer.save_pretrained(output)
