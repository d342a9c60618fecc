"""How much a provider's model thinks before it answers, and how many tokens it is given for that. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from subterra_api.digest import significant_fields
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.hosted_models.catalog import HostedModel, LongPrompts, base_model_named

ROOM: Mapping[str, int] = {
    "none": 0,
    "minimal": 2_048,
    "low": 4_096,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 32_768,
}
"""Tokens for thinking by effort, on top of the answer's own limit. Thinking counts toward a provider's limit on output, so without
room a model stops before its first word."""
MORE_ROOM = 4
"""Growth of the room when a response was cut while thinking."""
LEAST_ROOM = 4_096
"""Room for a model that thinks although nobody said that it would."""
MOST_ROOM = 65_536
DEFAULT_EFFORT = "high"
"""The effort of a model that thinks and has no setting for it."""


class EffortError(ValueError):
    """The model does not allow this effort."""


@dataclass(frozen=True)
class Thinking:
    """What a request says about thinking."""

    effort: str | None = None
    """Sent with each request; `None`: requests say nothing of it."""
    room: int = 0
    """Tokens for thinking, on top of the answer's limit."""
    most: int = MOST_ROOM
    """The largest room that the model takes."""
    off_type: str | None = None
    """Anthropic's `thinking.type` that turns thinking off; sent instead of an effort."""

    def more(self, room: int) -> int:
        """The room for a second try after one with `room` was not enough."""
        return min(self.most, max(LEAST_ROOM, room * MORE_ROOM))


NO_THINKING = Thinking()
"""For a model of which nothing is known: requests say nothing of thinking, and leave no room for it."""


def thinking_of(provider: Provider) -> Thinking:
    """What requests to `provider` say about thinking. Raises EffortError."""
    effort, model = sent_effort(provider), _model(provider)
    if provider.effort is not None and model is not None and provider.effort not in (allowed := _allowed(model)):
        fix = f"use one of: {', '.join(allowed)}" if allowed else "remove it"
        raise EffortError(f"{provider.model} does not allow effort {provider.effort!r}; {fix}")
    off = model.thinking.off_type if model is not None and effort == "none" else None
    room = ROOM[effort or DEFAULT_EFFORT] if effort is not None or (model is not None and model.thinks) else 0
    most = MOST_ROOM if model is None else min(MOST_ROOM, model.output_limit // 2)
    return Thinking(effort, min(room, most), most, off)


def sent_effort(provider: Provider) -> str | None:
    """The effort that requests carry: the provider's own, else the least of a model that thinks unasked; `None` for none."""
    if provider.effort is not None:
        return provider.effort
    model = _model(provider)
    return model.least_effort if model is not None and model.thinks else None


def thinks_unasked(provider: Provider) -> bool:
    """Whether the model is known to think when requests say nothing of it."""
    model = _model(provider)
    return model is not None and model.thinks


def request_fields(provider: Provider) -> Any:
    """All of a provider that requests to it carry, for cache keys and fingerprints.

    Models that do not think have the keys that they had before there was an effort.
    """
    effort = sent_effort(provider)
    return significant_fields(provider) | ({} if effort is None else {"effort": effort})


def long_prompts_of(provider: Provider) -> LongPrompts | None:
    """The surcharge on long prompts to this provider's model, if it is known to have one."""
    model = _model(provider)
    return None if model is None else model.long_prompts


def batch_factor_of(provider: Provider) -> Decimal:
    """Price of calls in batches relative to single ones; 1 for a model that has no batches, or none that are cheaper."""
    model = _model(provider)
    return Decimal(1) if model is None else model.batch_factor


def _allowed(model: HostedModel) -> tuple[str, ...]:
    """Efforts that the model allows, least first. Anthropic turns thinking off by another field than the effort's."""
    return (*(("none",) if model.thinking.off_type and "none" not in model.efforts else ()), *model.efforts)


def _model(provider: Provider) -> HostedModel | None:
    """What is known of the model; nothing of one at an endpoint of its own, whatever its name."""
    if provider.name == "scripted" or provider.base_url is not None or provider.model is None:
        return None
    model = base_model_named(provider.model)
    return model if model is not None and model.family == provider.name else None
