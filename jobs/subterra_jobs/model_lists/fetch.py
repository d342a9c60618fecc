"""Reads the providers' list endpoints with their SDKs, which read ANTHROPIC_BASE_URL and OPENAI_BASE_URL. They cost nothing."""

import re
from collections.abc import Iterator
from datetime import date

import anthropic
import openai

from subterra_core.hosted_models.refresh import ListedModel

PAGE = 1000
"""Models a page, the most that Anthropic's endpoint allows."""
EFFORTS = ("low", "medium", "high", "xhigh", "max")
"""Least first, as they are named in the capabilities of Anthropic's models."""
_OPENAI_TEXT = ("gpt-", "o1", "o3", "o4")
_OPENAI_OTHER = re.compile("audio|codex|image|realtime|search|transcribe|tts|chat-latest|deep-research|instruct|live")


class ListError(Exception):
    """A provider did not list its models; the message names it and the reason."""


def anthropic_models(key: str) -> tuple[ListedModel, ...]:
    """All models of Anthropic's API, retired ones included: lifecycle, retirement and limits. Raises ListError."""
    try:
        with anthropic.Anthropic(api_key=key) as client:
            pages = client.models.list(limit=PAGE, lifecycle=["active", "deprecated", "retired"])
            return tuple(_of_anthropic(info) for info in pages)
    except anthropic.APIError as error:
        raise ListError(f"Anthropic did not list its models ({error}); check ANTHROPIC_API_KEY") from error


def _of_anthropic(info: anthropic.types.ModelInfo) -> ListedModel:
    retires = info.retires_at.date() if info.retires_at else None
    efforts = tuple(_efforts(info)) or None
    limits = info.max_input_tokens, info.max_tokens
    return ListedModel(info.id, "anthropic", info.lifecycle, retires, *limits, efforts, _off_type(info))


def _efforts(info: anthropic.types.ModelInfo) -> Iterator[str]:
    capability = info.capabilities.effort if info.capabilities else None
    for effort in EFFORTS:
        support = getattr(capability, effort, None)
        if support is not None and support.supported:
            yield effort


def _off_type(info: anthropic.types.ModelInfo) -> str | None:
    types = info.capabilities.thinking.types if info.capabilities else None
    accepted = (name for name in ("disabled", "between_tools") if (support := getattr(types, name, None)) and support.supported)
    return next(accepted, None)


def openai_models(key: str) -> tuple[ListedModel, ...]:
    """Models of OpenAI's API that answer in text, each with its shutdown date if it has one. Raises ListError."""
    try:
        with openai.OpenAI(api_key=key) as client:
            models = [model for model in client.models.list() if _answers_in_text(model.id)]
            return tuple(ListedModel(model.id, "openai", None, _shutdown(model)) for model in models)
    except openai.APIError as error:
        raise ListError(f"OpenAI did not list its models ({error}); check OPENAI_API_KEY") from error


def _answers_in_text(name: str) -> bool:
    return name.startswith(_OPENAI_TEXT) and not _OPENAI_OTHER.search(name)


def _shutdown(model: openai.types.Model) -> date | None:
    return date.fromisoformat(model.shutdown_date) if model.shutdown_date else None
