"""The model to fine-tune, with the tokenizer and the chat template it will be served with."""

from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.train.model.chat_template import IM_END, IM_START, chat_template
from subterra_jobs.train.model.scratch_model import scratch_model
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer

SCRATCH = "scratch"


def load_base_model(
    uri: str, system_prompt: str, wordings: Sequence[str], seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A new model for ``scratch``, otherwise the model in a local directory or on a hub."""
    if uri == SCRATCH:
        tokenizer = scratch_tokenizer(wordings, system_prompt)
        return scratch_model(tokenizer, seed), tokenizer
    tokenizer = AutoTokenizer.from_pretrained(uri, trust_remote_code=False)
    _prepare_chatml(tokenizer, uri)
    tokenizer.chat_template = chat_template(system_prompt)
    model = AutoModelForCausalLM.from_pretrained(
        uri, dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32, trust_remote_code=False
    )
    model.config.use_cache = False
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(IM_END)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def _prepare_chatml(tokenizer: PreTrainedTokenizerBase, uri: str) -> None:
    """Sets end-of-turn and padding tokens, which must differ. Raises InvalidInputError without the template's tokens."""
    vocabulary = tokenizer.get_vocab()
    if IM_START not in vocabulary or IM_END not in vocabulary:
        raise InvalidInputError(
            f"the base model {uri} has no {IM_START} and {IM_END} tokens; use a Qwen model or another with ChatML"
        )
    tokenizer.eos_token = IM_END
    if tokenizer.pad_token is None or tokenizer.pad_token == IM_END:
        tokenizer.pad_token = next(token for token in tokenizer.all_special_tokens if token != IM_END)
