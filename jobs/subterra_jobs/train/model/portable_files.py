"""A model directory that other versions of transformers and vLLM read as this one does.

The trainer writes the files of transformers 5. What earlier readers need in another spelling is added here; nothing is taken away
that transformers 5 needs.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Fields = dict[str, Any]
_DROPPED = {"auto_map", "backend", "is_local", "local_files_only", "model_max_length"}
"""Fields of a tokenizer's configuration."""


def make_portable(directory: Path, max_new_tokens: int) -> None:
    """Rewrites the configuration of model, tokenizer and generation. ``max_new_tokens`` is the limit of a reply."""
    _rewrite(directory / "config.json", portable_config)
    _rewrite(directory / "tokenizer_config.json", portable_tokenizer)
    _rewrite(directory / "generation_config.json", lambda fields: generation_defaults(fields, max_new_tokens))


def portable_config(fields: Fields) -> Fields:
    """A model's configuration with the spellings of transformers 4 next to those of 5.

    Without `rope_theta` a reader of version 4 takes 10,000, without a warning, and the model talks nonsense. `use_cache` is off for
    the training only. `auto_map` names code of the base model's directory, which is not in this one.
    """
    rope = fields.get("rope_parameters") or {}
    if "full_attention" in rope:  # one for each kind of layer
        rope, local = rope["full_attention"], rope.get("sliding_attention") or {}
        fields = fields | ({"rope_local_base_freq": local["rope_theta"]} if "rope_theta" in local else {})
    old: Fields = {"use_cache": True}
    if "rope_theta" in rope:
        old["rope_theta"] = rope["rope_theta"]
    if rope.get("rope_type", "default") != "default":
        old["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
    if "dtype" in fields:
        old["torch_dtype"] = fields["dtype"]
    return {name: value for name, value in fields.items() if name != "auto_map"} | old


def portable_tokenizer(fields: Fields) -> Fields:
    """A tokenizer's configuration without what only transformers 5 understands: `tokenizer.json` says everything else.

    Version 4 knows no class `TokenizersBackend` and expects a mapping in `extra_special_tokens`; 5 reads the older names too. How
    long a conversation may be is said by the model's configuration alone: vLLM takes the smaller number of the two.
    """
    kept = {name: value for name, value in fields.items() if name not in _DROPPED}
    extra = kept.get("extra_special_tokens")
    if isinstance(extra, list):
        del kept["extra_special_tokens"]
        kept["additional_special_tokens"] = extra
    return kept | {"tokenizer_class": "PreTrainedTokenizerFast"}


def generation_defaults(fields: Fields, max_new_tokens: int) -> Fields:
    """How replies are generated where a client does not say: always the likeliest token, as in the evaluation, to a limit.

    As `top_k: 1`, which vLLM and transformers both obey. A temperature of 0 is what transformers refuses to save again.
    """
    return fields | {"do_sample": True, "temperature": 1.0, "top_k": 1, "top_p": 1.0, "max_new_tokens": max_new_tokens}


def _rewrite(file: Path, change: Callable[[Fields], Fields]) -> None:
    if file.is_file():
        file.write_text(json.dumps(change(json.loads(file.read_text("utf-8"))), indent=2, sort_keys=True) + "\n", "utf-8")
