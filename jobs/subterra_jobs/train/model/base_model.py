"""The model to fine-tune, its precision, and the tokenizer and chat template it will be served with."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from subterra_core.training_fit.base_models.chat_formats import ChatFormat, chat_format_in, named_formats
from subterra_core.training_fit.bfloat16 import multiplies_in_bfloat16
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.train.exchange import SCRATCH
from subterra_jobs.train.model.chat_template import chat_template
from subterra_jobs.train.model.refusals import (
    exact_attention,
    known_config,
    refused_by_transformers,
    require_exact,
    require_whole,
)
from subterra_jobs.train.model.scratch_model import scratch_model
from subterra_jobs.train.model.scratch_tokenizer import scratch_tokenizer


def load_tokenizer(uri: str, system_prompt: str, wordings: Sequence[str], tools: str = "") -> PreTrainedTokenizerBase:
    """A new tokenizer for ``scratch``, else the one in a local directory or on a hub; `tools` has a JSON line for each tool."""
    if uri == SCRATCH:
        return scratch_tokenizer(wordings, system_prompt, tools)
    with refused_by_transformers(uri):
        tokenizer = _read_tokenizer(uri)
    opening, chat = _opening(tokenizer), _prepare(tokenizer, uri)
    tokenizer.chat_template = chat_template(system_prompt, tools, chat, opening)
    require_exact(tokenizer, uri)
    return tokenizer


def load_model(uri: str, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A new model for ``scratch``, otherwise the one in a local directory or on a hub, in the precision of this machine."""
    if uri == SCRATCH:
        return scratch_model(tokenizer, seed)
    with refused_by_transformers(uri):
        attention = exact_attention(known_config(uri))
        model, loaded = AutoModelForCausalLM.from_pretrained(
            uri, dtype=training_dtype(uri), trust_remote_code=False, output_loading_info=True, **attention
        )
    require_whole(loaded, uri)
    model.config.use_cache = False
    end, padding = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.config.eos_token_id, model.config.pad_token_id = end, padding
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


def _read_tokenizer(uri: str) -> PreTrainedTokenizerBase:
    """The tokenizer that `tokenizer.json` describes.

    The class that a configuration names builds another one from its vocabulary if the name is wrong, as with a Llama whose
    vocabulary is that of another family.
    """
    if Path(uri, "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(uri)
    return AutoTokenizer.from_pretrained(uri, trust_remote_code=False, mistral_format=False)


def _prepare(tokenizer: PreTrainedTokenizerBase, uri: str) -> ChatFormat:
    """The format of the model's family. Sets end-of-turn and padding tokens, which must differ. Raises InvalidInputError."""
    vocabulary = tokenizer.get_vocab()
    chat = chat_format_in(vocabulary, str(tokenizer.chat_template or ""))
    if chat is None:
        raise InvalidInputError(
            f"base model {uri}: its tokenizer has the tokens of no chat format that is trained; name a model with those of "
            f"one ({named_formats()})"
        )
    tokenizer.eos_token = chat.end
    if tokenizer.pad_token is None or tokenizer.pad_token == chat.end:
        others = (*tokenizer.all_special_tokens, *sorted(vocabulary, key=vocabulary.__getitem__))
        tokenizer.pad_token = next(token for token in others if token != chat.end)
    return chat


def _opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that the base model's tokenizer or chat template puts before every text; empty if there is none."""
    added = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] or "bos_token" in str(tokenizer.chat_template)
    return str(tokenizer.bos_token) if tokenizer.bos_token and added else ""
