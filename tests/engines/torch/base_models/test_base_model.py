"""A pretrained base model: loaded in the precision that the machine is fast in, and refused without the tokens of its template."""

from pathlib import Path

import pytest
import torch

from subterra_jobs.train.model import base_model
from subterra_jobs.train.model.base_model import load_model, load_tokenizer, training_dtype
from subterra_jobs.train.model.chat_template import IM_END
from subterra_testkit.runs.small_models import small_llama
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT, WORDINGS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pretrained_model_is_loaded_in_the_machines_precision_and_ends_turns_as_its_template_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
):
    folder = str(small_llama(tmp_path))
    monkeypatch.setattr(base_model, "training_dtype", lambda uri: dtype)
    tokenizer = load_tokenizer(folder, SYSTEM_PROMPT, ())
    model = load_model(folder, tokenizer, seed=0)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert tokenizer.eos_token == IM_END != tokenizer.pad_token, "padding is never the end of a turn"
    ends = model.generation_config
    assert (ends.eos_token_id, ends.pad_token_id) == (tokenizer.convert_tokens_to_ids(IM_END), tokenizer.pad_token_id)
    assert model.config.use_cache is False


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU decides alone")
@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_a_processor_without_bfloat16_trains_in_float32_and_the_tiny_model_always_does(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], dtype: torch.dtype
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert training_dtype("/models/SmolLM2-135M-Instruct") == dtype
    assert training_dtype("scratch") == torch.float32


def test_scratch_needs_no_files():
    tokenizer = load_tokenizer("scratch", SYSTEM_PROMPT, WORDINGS)
    assert load_model("scratch", tokenizer, seed=0).dtype == torch.float32
