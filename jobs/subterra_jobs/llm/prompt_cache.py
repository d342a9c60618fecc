"""What providers keep of a prompt's constant part, so that repeating it is cheaper. Pure."""

from collections.abc import Mapping

BYTES_PER_TOKEN = 4
"""About what tokenizers make of plain text."""
_ANTHROPIC: Mapping[str, int] = {
    "claude-sonnet-4-5": 1024, "claude-sonnet-4-6": 2048, "claude-haiku-4-5": 4096, "claude-opus-4-6": 4096,
}  # fmt: skip
"""Tokens below which a model caches nothing (platform.claude.com, prompt caching, "cache limitations").

For Sonnet 4.6 the page has said 1,024, and users measured 2,048 (anthropics/anthropic-sdk-python, issue 1194).
"""
_UNKNOWN_MODEL = 4096
_OPENAI = 1024
"""OpenAI caches from there on by itself (developers.openai.com, prompt caching)."""


def tokens(size: int) -> int:
    """About how many tokens so many bytes of text are."""
    return size // BYTES_PER_TOKEN


def cache_minimum(provider: str, model: str) -> int:
    """Tokens below which nothing is cached; the largest that is known of Anthropic's models for one that is not."""
    if provider == "openai":
        return _OPENAI
    return next((least for name, least in _ANTHROPIC.items() if model.startswith(name)), _UNKNOWN_MODEL)
