"""The pretrained model that comes with the image: it loads, speaks ChatML, answers, and may be read and passed on."""

import stat

import pytest
import torch
from tests.tools.models import models_directory

from subterra_jobs.train.model.base_model import load_model, load_tokenizer, training_dtype
from subterra_jobs.train.model.chat_template import IM_END, IM_START
from subterra_operator.specs.in_vllm.drainable_vllm import processor_dtype

FOLDER = models_directory() / "SmolLM2-135M-Instruct"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"there is no {FOLDER}: make test-tools unpacks it")


def test_the_bundled_model_answers_a_question_in_chatml() -> None:
    tokenizer = load_tokenizer(str(FOLDER), "You are a helpful assistant.", ())
    assert [len(tokenizer(token)["input_ids"]) for token in (IM_START, IM_END)] == [1, 1]
    assert tokenizer.eos_token == IM_END != tokenizer.pad_token
    model = load_model(str(FOLDER), tokenizer, seed=0)
    assert model.dtype == training_dtype(str(FOLDER))
    assert 130e6 < model.num_parameters() < 140e6
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.no_grad():
        answer = model.generate(**asked, max_new_tokens=24, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer, skip_special_tokens=True)
    assert answer[-1] == tokenizer.convert_tokens_to_ids(IM_END), "it ends its turn"


def test_it_is_served_in_the_precision_in_which_it_was_trained() -> None:
    assert f"torch.{processor_dtype()}" == str(training_dtype(str(FOLDER)))


def test_every_user_of_a_pod_may_read_the_bundled_model() -> None:
    for path in (FOLDER.parent, FOLDER, *FOLDER.rglob("*")):
        needed = 0o555 if path.is_dir() else 0o444
        assert stat.S_IMODE(path.stat().st_mode) & needed == needed, path


def test_the_bundled_model_comes_with_its_license_and_says_where_it_is_from() -> None:
    assert "Apache License" in (FOLDER / "LICENSE").read_text()
    card = (FOLDER / "README.md").read_text()
    assert "Apache-2.0" in card
    assert "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct" in card
    assert "quantized to four bits" in card
