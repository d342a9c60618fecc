"""Providers' prompt caches: which constant part of a prompt they keep, so that repeating it is cheaper. Pure."""

from subterra_core.hosted_models.catalog import model_named

BYTES_PER_TOKEN = 4
"""Approximate bytes per token of plain text."""
_UNKNOWN_MODEL_MINIMUM = 4096
_OPENAI_MINIMUM = 1024
"""From this size on OpenAI caches by itself (developers.openai.com, prompt caching)."""


def estimated_tokens(size: int) -> int:
    """Approximate tokens of `size` bytes of text."""
    return size // BYTES_PER_TOKEN


def cache_minimum(provider: str, model: str) -> int:
    """Tokens below which nothing is cached; for an unknown Anthropic model the largest known minimum."""
    if provider == "openai":
        return _OPENAI_MINIMUM
    known = model_named(model)
    return known.minimum_cached_tokens if known else _UNKNOWN_MODEL_MINIMUM


def hour_pays(calls: int) -> bool:
    """Whether keeping a constant part for an hour pays when this many calls of one batch share it.

    Written once it costs twice the input price, read a tenth. Calls of a batch run side by side, and several write before the first
    one can be read: it pays as long as more than 53 % of them read.
    """
    return calls >= _SHARED_CALLS


_SHARED_CALLS = 20
