"""Providers' prompt caches: which constant part of a prompt they keep, so that repeating it is cheaper. Pure."""

from collections.abc import Mapping

BYTES_PER_TOKEN = 4
"""Approximate bytes per token of plain text."""
_ANTHROPIC_MINIMUM: Mapping[str, int] = {
    "claude-sonnet-4-5": 1024,
    "claude-sonnet-4-6": 2048,
    "claude-haiku-4-5": 4096,
    "claude-opus-4-6": 4096,
}
"""Tokens below which a model caches nothing (platform.claude.com, prompt caching, "cache limitations").

For Sonnet 4.6 the page has said 1,024, and users measured 2,048 (anthropics/anthropic-sdk-python, issue 1194).
"""
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
    known = (minimum for name, minimum in _ANTHROPIC_MINIMUM.items() if model.startswith(name))
    return next(known, _UNKNOWN_MODEL_MINIMUM)
