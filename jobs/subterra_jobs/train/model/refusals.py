"""Base models that would be trained wrongly without a word, or fail with words of a library: refused with cause and fix."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from subterra_core.training_fit.base_models.chat_formats import chat_format_ended_by
from subterra_jobs.errors import InvalidInputError, StageError
from subterra_jobs.train.ranks.rank_failure import symptom_in

LIBRARY = f"transformers {transformers.__version__} of the jobs image"
LONGEST_CAUSE = 300
PROBE = "Ærø 12:30, No. 5–7; «señor» 東京  it's {a} 50 %"
"""A text that a tokenizer must give back letter by letter, as an agent must repeat values."""


@contextmanager
def refused_by_transformers(uri: str) -> Iterator[None]:
    """Turns what transformers raises for files that it cannot use into a refusal; failures of the machine stay as they are."""
    try:
        yield
    except StageError:
        raise
    except Exception as error:
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if symptom_in(words) is not None or getattr(error, "errno", None) is not None:
            raise
        raise InvalidInputError(
            f"base model {uri}: {LIBRARY} cannot load it ({words[:LONGEST_CAUSE]}); correct that, or name another model"
        ) from error


def known_config(uri: str) -> PreTrainedConfig:
    """The model's configuration. Raises InvalidInputError for a type that this image has no code for."""
    fields, _ = PreTrainedConfig.get_config_dict(uri)
    kind = fields.get("model_type")
    if kind not in CONFIG_MAPPING_NAMES:
        own = " and code in the model's directory is never run" if "auto_map" in fields else ""
        newer = f" (it was written by {fields['transformers_version']})" if "transformers_version" in fields else ""
        raise InvalidInputError(
            f"base model {uri}: config.json: model_type is {kind}, which {LIBRARY} does not know{newer}{own}; name a model of a "
            "type that it knows, or build the image with a newer one"
        )
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise InvalidInputError(
            f"base model {uri}: config.json: model_type is {kind}, and {LIBRARY} has no such model that writes text; name another"
        )
    return AutoConfig.from_pretrained(uri, trust_remote_code=False)


def exact_attention(config: PreTrainedConfig) -> dict[str, str]:
    """The argument with which a model is loaded whose attention PyTorch's kernels leave a part of away: capped logits."""
    return {"attn_implementation": "eager"} if getattr(config.get_text_config(), "attn_logit_softcapping", None) else {}


def require_whole(loaded: Mapping[str, Any], uri: str) -> None:
    """Raises InvalidInputError if weights are not in the files, which transformers replaces with random ones and a warning."""
    for problem in ("missing_keys", "mismatched_keys"):
        names = sorted(map(str, loaded.get(problem) or ()))
        if names:
            word = "lack" if problem == "missing_keys" else "have in another shape"
            raise InvalidInputError(
                f"base model {uri}: its files {word} {names[0]} ({len(names)} weights in all), which would be random; name "
                "a complete model whose config.json and weights belong together"
            )


def require_exact(tokenizer: PreTrainedTokenizerBase, uri: str) -> None:
    """Raises InvalidInputError unless a chat has the same tokens when it is trained and when it is served, and words come back."""
    chat = chat_format_ended_by(tokenizer.eos_token)
    asked = [{"role": "user", "content": PROBE}]
    whole = _tokens(tokenizer, [*asked, {"role": "assistant", "content": PROBE}])
    served = _tokens(tokenizer, asked, ask=True)
    reply = tokenizer.backend_tokenizer.decode(whole[len(served) :], skip_special_tokens=False)
    split = next((token for token in chat.tokens if len(_ids(tokenizer, token)) != 1), None)
    if split or whole[: len(served)] != served or not reply.startswith(f"{PROBE}{chat.end}"):
        found = f"splits {split}" if split else f"makes {reply!r} of {PROBE!r} in a reply"
        raise InvalidInputError(
            f"base model {uri}: its tokenizer {found}, so what is trained would not be what is served; name a model whose "
            f"tokenizer keeps every letter and has {' '.join(chat.tokens)} as tokens"
        )


def require_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[int]], uri: str
) -> None:
    """Raises InvalidInputError for a token without a row in the model's embeddings: a GPU would only report an assertion."""
    rows = model.get_input_embeddings().num_embeddings
    highest = max(tokenizer.pad_token_id, tokenizer.eos_token_id, *(max(ids) for ids in conversations))
    if highest >= rows:
        raise InvalidInputError(
            f"base model {uri}: token {tokenizer.convert_ids_to_tokens(highest)} of its tokenizer has number {highest}, and its "
            f"embeddings have {rows} rows; save the model again after resize_token_embeddings"
        )


def _tokens(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, ask: bool = False) -> list[int]:
    return _ids(tokenizer, tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
