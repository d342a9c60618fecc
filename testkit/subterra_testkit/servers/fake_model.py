"""How a fake hosted model behaves: it thinks before it answers, stops early, refuses and bills, the same way for the same seed."""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

Stop = Literal["end", "length", "refusal", "filter", "pause", "tool", "empty"]
ANTHROPIC_STOPS: Mapping[Stop, str] = {
    "end": "end_turn",
    "length": "max_tokens",
    "refusal": "refusal",
    "filter": "refusal",
    "pause": "pause_turn",
    "tool": "tool_use",
    "empty": "end_turn",
}
OPENAI_STOPS: Mapping[Stop, str] = {
    "end": "stop",
    "length": "length",
    "refusal": "stop",
    "filter": "content_filter",
    "pause": "stop",
    "tool": "tool_calls",
    "empty": "stop",
}
DEARER_TIERS = ("priority", "fast")
"""OpenAI's service tiers that cost twice as much as the standard one."""
SILENT = ("refusal", "filter", "pause", "tool", "empty")


@dataclass(frozen=True)
class Tokens:
    """What one call is billed for; `written` to the cache for five minutes, `written_1h` for an hour."""

    plain: int
    output: int
    written: int = 0
    written_1h: int = 0
    read: int = 0


@dataclass(frozen=True)
class Prices:
    """The provider's own price list, in dollars per million tokens. Kept apart from the product's on purpose."""

    input: Decimal
    output: Decimal
    written: Decimal
    written_1h: Decimal
    read: Decimal

    def bill(self, tokens: Tokens) -> Decimal:
        """Dollars of one call."""
        amounts = (
            (tokens.plain, self.input),
            (tokens.output, self.output),
            (tokens.written, self.written),
            (tokens.written_1h, self.written_1h),
            (tokens.read, self.read),
        )
        return sum((count * price for count, price in amounts), Decimal(0)) / 1_000_000


SONNET_5_5 = Prices(Decimal(2), Decimal(10), Decimal("2.5"), Decimal(4), Decimal("0.2"))
LUNA = Prices(Decimal("0.1"), Decimal("0.5"), Decimal("0.125"), Decimal("0.2"), Decimal("0.01"))


@dataclass(frozen=True)
class Outcome:
    """What the model makes of one request."""

    text: str
    stop: Stop
    thinking: int
    output: int
    """All tokens written, thinking included."""


@dataclass(frozen=True)
class FakeModel:
    """A model's habits. Each share is of all requests; the same request meets the same fate at any time."""

    thinks: tuple[int, int] = (0, 0)
    """Fewest and most tokens of thinking before an answer, unless the effort is `none`."""
    shares: Mapping[Stop, float] | None = None
    """Share of requests that end with a stop other than `end`."""
    ignores_limit: bool = False
    inline_thinking: bool = False
    """Thinking stands in `<think>` tags at the start of the text, as servers without a parser for it send it."""
    cached_for_an_hour: bool = False
    token_factor: float = 1.0
    """Tokens of a text relative to older models; thinking is given in tokens anyway."""
    prices: Prices = SONNET_5_5
    tier: str | None = None
    """Service tier that answers OpenAI's requests, whatever they ask for."""
    seed: int = 1

    def outcome(self, body: dict[str, Any], text: str, said: int) -> Outcome:
        """The outcome of a request for which the model has `text` of `said` tokens in mind."""
        rng = random.Random(f"{self.seed}/{request_digest(body)}")
        thinking = 0 if _effort(body) == "none" else rng.randint(*self.thinks)
        stop = self._stop(rng)
        said = rng.randint(1, 20) if stop in SILENT else round(said * self.token_factor)
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 10**9
        if thinking + said > limit and not self.ignores_limit:
            left = max(0, limit - thinking)
            return Outcome(text[: 4 * left] if stop == "end" else "", "length", min(thinking, limit), limit)
        return Outcome("" if stop in SILENT else text, stop, thinking, thinking + said)

    def _stop(self, rng: random.Random) -> Stop:
        at = rng.random()
        for stop, share in (self.shares or {}).items():
            if at < share:
                return stop
            at -= share
        return "end"


def request_digest(body: dict[str, Any]) -> str:
    """Digest of what is asked, whatever the limits on the answer."""
    asked = [body.get("system"), body["messages"]]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def anthropic_content(outcome: Outcome) -> list[dict[str, Any]]:
    """Content blocks of the Messages API."""
    thoughts = [{"type": "thinking", "thinking": "", "signature": "c2ln"}] if outcome.thinking else []
    if outcome.stop == "tool":
        return [*thoughts, {"type": "tool_use", "id": "toolu_1", "name": "search", "input": {}}]
    if outcome.stop == "pause":
        return [*thoughts, {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}]
    return [*thoughts, *([{"type": "text", "text": outcome.text}] if outcome.text else [])]


def anthropic_usage(tokens: Tokens, thinking: int) -> dict[str, Any]:
    """`usage` of the Messages API."""
    return {
        "input_tokens": tokens.plain,
        "output_tokens": tokens.output,
        "cache_creation_input_tokens": tokens.written + tokens.written_1h,
        "cache_creation": {"ephemeral_5m_input_tokens": tokens.written, "ephemeral_1h_input_tokens": tokens.written_1h},
        "cache_read_input_tokens": tokens.read,
        "output_tokens_details": {"thinking_tokens": thinking},
        "service_tier": "standard",
    }


def openai_message(outcome: Outcome, *, inline: bool) -> dict[str, Any]:
    """`message` of a chat completion."""
    if outcome.stop == "refusal":
        return {"role": "assistant", "content": None, "refusal": "I'm sorry, I can't assist with that."}
    if outcome.stop == "tool":
        call = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
        return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    text = outcome.text
    if inline:
        text = f"<think>\nwell\n</think>\n\n{text}" if text else "<think>\nwell"
    return {"role": "assistant", "content": text or None, "refusal": None}


def openai_usage(tokens: Tokens, thinking: int) -> dict[str, Any]:
    """`usage` of a chat completion, whose prompt tokens include what was read from the cache and written to it."""
    prompt = tokens.plain + tokens.written + tokens.read
    return {
        "prompt_tokens": prompt,
        "completion_tokens": tokens.output,
        "total_tokens": prompt + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.read, "cache_write_tokens": tokens.written},
        "completion_tokens_details": {"reasoning_tokens": thinking},
    }


def retired_body(model: str) -> str:
    """The body with which a model's provider answers once the model is retired. It does not say that it was retired."""
    if model.startswith("claude"):
        return json.dumps(
            {"type": "error", "error": {"type": "not_found_error", "message": f"model: {model}"}, "request_id": "req_1"}
        )
    said = f"The model `{model}` does not exist or you do not have access to it."
    return json.dumps({"error": {"message": said, "type": "invalid_request_error", "param": None, "code": "model_not_found"}})


def _effort(body: dict[str, Any]) -> str | None:
    off = body.get("thinking", {}).get("type") in ("disabled", "between_tools")
    effort = "none" if off else body.get("reasoning_effort", body.get("output_config", {}).get("effort"))
    return None if effort is None else str(effort)
