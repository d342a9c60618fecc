"""Conversations in one row give the gradients that each gives alone, and nothing of one reaches another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from subterra_jobs.train.batches.collators import PaddingCollator, in_one_row
from subterra_jobs.train.batches.segmented_attention import use_segments
from subterra_jobs.train.model.base_model import load_tokenizer
from subterra_jobs.train.model.scratch_model import scratch_model
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer
from subterra_jobs.train.tokenized_dataset import IGNORED, Example, encode
from subterra_testkit.runs.small_models import SIZES, label_gradients, small_llama
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT, WORDINGS, conversation

CITIES = ("Rome", "Ho Chi Minh City", "San Pedro de Atacama on the way to Antofagasta", "Oslo")
TOKENIZER = scratch_tokenizer(WORDINGS, SYSTEM_PROMPT)
SMALL: dict[str, Any] = SIZES | {"vocab_size": len(TOKENIZER), "head_dim": 16}


def qwen3(folder: Path) -> PreTrainedModel:
    """With norms on queries and keys, and with grouped heads."""
    return Qwen3ForCausalLM(Qwen3Config(**SMALL))


def llama(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(small_llama(folder), dtype=torch.float32)


def scratch(folder: Path) -> PreTrainedModel:
    return scratch_model(TOKENIZER, seed=1)


def examples() -> list[Example]:
    return [encode(TOKENIZER, conversation(city, opener=None)) for city in CITIES]


@pytest.mark.parametrize("build", [llama, qwen3, scratch])
def test_gradients_of_one_row_are_those_of_single_conversations(build: Callable[[Path], PreTrainedModel], tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = build(tmp_path)
    alone = label_gradients(model, [PaddingCollator(0)([example]) for example in examples()])
    assert use_segments(model)
    in_row = label_gradients(model, [in_one_row(examples())])
    assert in_row.keys() == alone.keys()
    scale = max(float(gradient.abs().max()) for gradient in alone.values())
    assert scale > 0
    for name, gradient in alone.items():
        assert float((in_row[name] - gradient).abs().max()) <= 1e-6 * max(1.0, scale), name


def test_what_one_conversation_says_changes_no_logit_of_another(tmp_path: Path) -> None:
    model = llama(tmp_path)
    assert use_segments(model)
    first, second, other = examples()[:3]
    with torch.no_grad():
        after_first, after_other = (
            model(**{name: value for name, value in in_one_row([before, second]).items() if name != "labels"}).logits
            for before in (first, other)
        )
    assert torch.allclose(after_first[:, first["length"] :], after_other[:, other["length"] :], atol=1e-5)


def test_a_row_is_as_long_as_its_conversations_together_and_no_label_crosses_from_one_to_the_next() -> None:
    row = in_one_row(examples())
    lengths = [example["length"] for example in examples()]
    assert row["input_ids"].shape == row["labels"].shape == row["position_ids"].shape == (1, sum(lengths))
    assert row["cu_seq_lens_q"].diff().tolist() == lengths
    assert all(row["labels"][0, start] == IGNORED and row["position_ids"][0, start] == 0 for start in row["cu_seq_lens_q"][:-1])


def test_a_padded_batch_is_padded_on_the_right_and_pads_are_not_learned() -> None:
    short, long = examples()[:2]
    batch = PaddingCollator(TOKENIZER.pad_token_id)([short, long])
    assert batch["input_ids"].shape == batch["labels"].shape == batch["position_ids"].shape == (2, long["length"])
    assert torch.all(batch["labels"][0, short["length"] :] == IGNORED)
    assert "attention_mask" not in batch


def test_a_model_that_looks_back_through_a_window_keeps_its_own_attention() -> None:
    window = Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=16, max_window_layers=0)
    model = Qwen2ForCausalLM(window)
    before = model.config._attn_implementation
    assert not use_segments(model)
    assert model.config._attn_implementation == before


def test_an_exported_model_does_not_ask_for_this_attention(tmp_path: Path) -> None:
    model = llama(tmp_path / "base")
    assert use_segments(model)
    model.save_pretrained(tmp_path / "model")
    load_tokenizer(str(tmp_path / "base"), SYSTEM_PROMPT, ()).save_pretrained(tmp_path / "model")
    assert "subterra_segments" not in "".join(file.read_text() for file in (tmp_path / "model").glob("*.json"))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").config._attn_implementation == "sdpa"
