"""Why a response holds no usable text, in one vocabulary for all providers, and what to do about it. Pure."""

from collections.abc import Mapping

THINKING = "thinking"
"""The limit on tokens was reached inside or after the model's thinking."""
REFUSAL = "refusal"
FILTERED = "content_filter"
TOOL_CALL = "tool_use"
PAUSED = "pause_turn"
EMPTY = "empty"
NO_REASON = "unknown"
"""The provider gave no reason."""
LENGTHS = frozenset({"max_tokens", "length"})
"""The providers' own words for a response that reached the limit on tokens."""

_NAMES: Mapping[str, str] = {"tool_calls": TOOL_CALL, "function_call": TOOL_CALL}
_EXPLANATIONS: Mapping[str, str] = {
    THINKING: "the model was still thinking at the limit, twice; set a lower effort, or take a model that thinks less",
    REFUSAL: "the model declined to answer; look at the texts of this node, or take another model",
    FILTERED: "the provider's content filter blocked it; look at the texts of this node, or take another model",
    TOOL_CALL: "the model called a tool, and none was offered; take another model, or the endpoint's option that turns tools off",
    PAUSED: "the provider paused the turn, which it does for its own tools only; take another model",
    EMPTY: "the response has no text; take another model",
    "model_context_window_exceeded": "the prompt leaves no room in the model's context; take a model with a longer one",
}


def stop_of(reason: str | None, *, complete: tuple[str, ...], text: str, thought: bool) -> str | None:
    """The stop for a provider's `reason`, `None` for a complete response; `complete` are the reasons of those.

    Reasons without a name here keep the provider's own.
    """
    if reason in complete:
        return None if text.strip() else EMPTY
    if reason in LENGTHS and thought:
        return THINKING
    return NO_REASON if reason is None else _NAMES.get(reason, reason)


def explained(stop: str) -> str:
    """The stop with its fix. Drops are counted by the part before the colon."""
    explanation = _EXPLANATIONS.get(stop)
    return f"{stop}: {explanation}" if explanation else stop
