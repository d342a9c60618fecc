"""The model to fine-tune, its precision, and the tokenizer and chat template it will be served with."""

from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from subterra_core.training_fit.bfloat16 import multiplies_in_bfloat16
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.train.exchange import SCRATCH
from subterra_jobs.train.model.chat_template import IM_END, IM_START, chat_template
from subterra_jobs.train.model.scratch_model import scratch_model
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer


def load_tokenizer(uri: str, system_prompt: str, wordings: Sequence[str], tools: str = "") -> PreTrainedTokenizerBase:
    """A new tokenizer for ``scratch``, else the one in a local directory or on a hub; `tools` has a JSON line for each tool."""
    if uri == SCRATCH:
        return scratch_tokenizer(wordings, system_prompt, tools)
    tokenizer = AutoTokenizer.from_pretrained(uri, trust_remote_code=False)
    _prepare_chatml(tokenizer, uri)
    tokenizer.chat_template = chat_template(system_prompt, tools)
    return tokenizer


def load_model(uri: str, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A new model for ``scratch``, otherwise the one in a local directory or on a hub, in the precision of this machine."""
    if uri == SCRATCH:
        return scratch_model(tokenizer, seed)
    model = AutoModelForCausalLM.from_pretrained(uri, dtype=training_dtype(uri), trust_remote_code=False)
    model.config.use_cache = False
    end, padding = tokenizer.convert_tokens_to_ids(IM_END), tokenizer.pad_token_id
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=padding)
    return model


def load_whole(uri: str, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """The same in this process alone, which ends ZeRO-3's division of models that are loaded from now on."""
    unset_hf_deepspeed_config()
    return load_model(uri, tokenizer, seed)


def training_dtype(uri: str) -> torch.dtype:
    """bfloat16 where the machine multiplies in it, with DeepSpeed's float32 master weights; float32 elsewhere and for ``scratch``.

    The tiny model gains no time from bfloat16, and its computed initial weights lose exactness.
    """
    if uri == SCRATCH:
        return torch.float32
    if torch.cuda.is_available():
        return torch.bfloat16
    features = (name for name, present in torch.cpu.get_capabilities().items() if present)
    return torch.bfloat16 if multiplies_in_bfloat16(features) else torch.float32


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
