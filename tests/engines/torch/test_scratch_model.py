"""The tiny model: a tokenizer without holes, and a first state that already knows where to look."""

import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from subterra_jobs.train.model.scratch_model import scratch_model
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer
from subterra_testkit.runs.training_inputs import SYSTEM_PROMPT, WORDINGS, conversation

TOKENIZER = scratch_tokenizer(WORDINGS, SYSTEM_PROMPT)


@given(st.text())
@settings(max_examples=200)
def test_any_text_survives_the_tokenizer(text: str):
    text = text.replace("<|", "")  # the template breaks control tokens up
    assert TOKENIZER.decode(TOKENIZER(text, add_special_tokens=False)["input_ids"]) == unicodedata.normalize("NFC", text)


def test_a_reader_of_the_model_directory_sees_the_same_tokens(tmp_path: Path):
    TOKENIZER.save_pretrained(tmp_path)
    scratch_model(TOKENIZER, seed=0).save_pretrained(tmp_path)  # what a reader makes of the tokenizer depends on the model's type
    read = AutoTokenizer.from_pretrained(tmp_path)
    text = TOKENIZER.apply_chat_template(conversation("Ho Chi Minh City"), tokenize=False)
    assert read(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    assert read.chat_template == TOKENIZER.chat_template


def test_words_of_the_procedure_are_single_tokens():
    assert len(TOKENIZER("Where would you like to go?")["input_ids"]) == 7


def test_every_byte_has_a_token():
    text = unicodedata.normalize("NFC", "".join(chr(code) for code in range(0x250)) + "日本語😀")
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@pytest.mark.parametrize("value", ["Ho Chi Minh City", "12 to 18 May", "$4,500", "Zorvel"])
def test_a_value_has_the_same_tokens_wherever_it_stands(value: str):
    alone = TOKENIZER(value)["input_ids"]
    inside = TOKENIZER(f"I want to go to {value}.")["input_ids"]
    assert any(inside[start : start + len(alone)] == alone for start in range(len(inside)))


def test_no_value_becomes_a_token():
    named = scratch_tokenizer([*WORDINGS, "{{cityOfDreams}}"], SYSTEM_PROMPT)
    assert "Dreams" not in named.get_vocab()


def test_the_first_state_attends_to_what_followed_last_time():
    model = scratch_model(TOKENIZER, seed=0)
    model.set_attn_implementation("eager")
    generator = torch.Generator().manual_seed(1)
    alphabet = 30  # so few that single tokens repeat by chance: only their order tells the places apart
    phrase = torch.randint(10, 10 + alphabet, (8, 60), generator=generator)
    with torch.no_grad():
        attention = model(torch.cat([phrase, phrase], 1), output_attentions=True).attentions[1][:, 0]
    right = torch.stack([attention[:, 60 + place, place + 1] for place in range(3, 59)]).mean()
    assert right > 0.75


def test_a_seed_always_gives_the_same_model():
    first, second, other = (scratch_model(TOKENIZER, seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_making_a_model_leaves_the_callers_randomness_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    scratch_model(TOKENIZER, seed=0)
    assert torch.equal(torch.rand(1), expected)
