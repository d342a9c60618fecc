"""What a model directory says about itself, as far as it decides whether the model can be trained. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ModelFiles:
    """The names of a directory's files, and the contents of some."""

    names: frozenset[str]
    config: Mapping[str, Any]
    """`config.json`."""
    shards: frozenset[str] = frozenset()
    """Files that an index of weights names."""
    tokens: Mapping[str, int] | None = None
    """Numbers by token, of `tokenizer.json` and of files that add some; `None` without that file."""
    chat_template: str = ""
    """The model's own."""


def tokens_of(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Numbers by token in a `tokenizer.json`, of whatever kind."""
    model = tokenizer.get("model") or {}
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(vocabulary, Mapping):
        numbers = dict(vocabulary)
    else:  # Unigram: pairs of token and score
        numbers = {str(pair[0]): number for number, pair in enumerate(vocabulary or ())}
    return numbers | {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or ()}


def added_tokens_of(tokenizer_config: Mapping[str, Any]) -> dict[str, int]:
    """Numbers by token that a `tokenizer_config.json` adds to those of `tokenizer.json`."""
    added = tokenizer_config.get("added_tokens_decoder") or {}
    return {token["content"]: int(number) for number, token in added.items()}


def template_of(tokenizer_config: Mapping[str, Any]) -> str:
    """All chat templates in a `tokenizer_config.json`: a text, or a list of named ones."""
    template = tokenizer_config.get("chat_template") or ""
    return template if isinstance(template, str) else " ".join(str(each.get("template", "")) for each in template)
