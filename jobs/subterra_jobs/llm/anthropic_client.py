"""Client of the Messages API. The SDK reads ANTHROPIC_BASE_URL."""

import logging
from collections.abc import Mapping
from typing import Any

import anthropic
from anthropic.types import Message

from subterra_jobs.llm.behavior.prompt_cache import cache_minimum, estimated_tokens
from subterra_jobs.llm.behavior.reasons import whole_characters
from subterra_jobs.llm.behavior.stops import stop_of
from subterra_jobs.llm.behavior.thinking import NO_THINKING, Thinking
from subterra_jobs.llm.client import (
    CALL_TIMEOUT_SECONDS,
    Request,
    Response,
    Usage,
    parse_limits,
    refused_error,
    unexpected_answer,
)
from subterra_jobs.llm.rate_limit import Limit

log = logging.getLogger("subterra")

_LIMIT_HEADERS = {
    name: (f"anthropic-ratelimit-{name}-limit", f"anthropic-ratelimit-{name}-remaining")
    for name in ("requests", "input-tokens", "output-tokens")
}
_COMPLETE = ("end_turn", "stop_sequence")


class AnthropicClient:
    """One model of the provider."""

    def __init__(self, model: str, key: str, thinking: Thinking = NO_THINKING) -> None:
        self._model, self._thinking = model, thinking
        self._tier: Any = "standard_only"  # an account's priority tier has other prices
        # The SDK's own retries would be neither counted nor bounded by our patience. aiohttp needs half of httpx's CPU time.
        http = anthropic.DefaultAioHttpClient(timeout=CALL_TIMEOUT_SECONDS)
        self.sdk = anthropic.AsyncAnthropic(api_key=key, max_retries=0, http_client=http)
        self._logged_uncached = False

    async def complete(self, request: Request) -> Response:
        """See `Client`."""
        try:
            response = await self._create(request)
        except anthropic.APIError as error:
            raw = getattr(error, "response", None)
            refused = refused_error(error, {} if raw is None else limits_of(raw.headers))
            if self._tier is anthropic.omit or refused.status != 400 or "service_tier" not in refused.message:
                raise refused from error
            self._tier = anthropic.omit
            return await self.complete(request)
        limits = limits_of(response.headers)
        try:
            message: object = await response.parse()
        except (anthropic.APIError, ValueError):
            message = response.text
        return read_message(message, limits)

    async def close(self) -> None:
        """See `Client`."""
        await self.sdk.close()

    async def _create(self, request: Request) -> Any:
        return await self.sdk.messages.with_raw_response.create(
            **self.fields(request), service_tier=self._tier, timeout=CALL_TIMEOUT_SECONDS + request.thinking_seconds
        )

    def fields(self, request: Request, *, cached_for_an_hour: bool = False) -> dict[str, Any]:
        """The request's body, without the service tier."""
        optional = {"output_config": self._output(request), "thinking": self._thinking_off()}
        return {
            "model": self._model,
            "max_tokens": request.output_limit,
            "system": self._system(request.system, cached_for_an_hour),
            "messages": list(request.messages),
            **{name: value for name, value in optional.items() if value},
        }

    def _thinking_off(self) -> dict[str, str]:
        return {} if self._thinking.off_type is None else {"type": self._thinking.off_type}

    def _output(self, request: Request) -> dict[str, Any]:
        said = self._thinking.effort
        effort = {} if said is None or said == "none" else {"effort": said}
        form = {} if request.schema is None else {"format": {"type": "json_schema", "schema": request.schema}}
        return {**effort, **form}

    def _system(self, text: str, for_an_hour: bool) -> list[dict[str, Any]]:
        """The system prompt, marked for the cache if it is long enough for the model to cache it."""
        block: dict[str, Any] = {"type": "text", "text": text}
        size, minimum = estimated_tokens(len(text.encode())), cache_minimum("anthropic", self._model)
        if size >= minimum:
            return [block | {"cache_control": {"type": "ephemeral", **({"ttl": "1h"} if for_an_hour else {})}}]
        if not self._logged_uncached:
            self._logged_uncached = True
            log.info(
                "the constant part of the prompt has about %d tokens, and %s caches none below %d; each call pays for it in full",
                size,
                self._model,
                minimum,
            )
        return [block]


def limits_of(headers: Mapping[str, str]) -> dict[str, Limit]:
    """The account's limits per minute from response headers."""
    return parse_limits(headers, _LIMIT_HEADERS)


def read_message(message: object, limits: Mapping[str, Limit]) -> Response:
    """The response in a body, which the SDK does not check. Raises RefusedError for one of another form."""
    body = message.to_dict() if isinstance(message, Message) else message
    try:
        return _response(message, limits)
    except (AttributeError, TypeError, ValueError):
        raise unexpected_answer(body, limits, _usage_or_none(message)) from None


def _response(message: Any, limits: Mapping[str, Limit]) -> Response:
    kinds = [block.type for block in message.content]
    text = whole_characters("".join(block.text for block in message.content if block.type == "text"))
    usage = _usage(message.usage)
    thought = usage.thinking > 0 or any("thinking" in kind for kind in kinds)
    return Response(text, stop_of(message.stop_reason, complete=_COMPLETE, text=text, thought=thought), usage, limits)


def _usage_or_none(message: Any) -> Usage | None:
    try:
        return _usage(message.usage)
    except (AttributeError, TypeError, ValueError):
        return None


def _usage(usage: anthropic.types.Usage) -> Usage:
    """Tokens written for an hour are part of all tokens written."""
    written, details = usage.cache_creation_input_tokens or 0, usage.output_tokens_details
    hour = usage.cache_creation.ephemeral_1h_input_tokens if usage.cache_creation else 0
    return Usage(
        int(usage.input_tokens),
        int(usage.output_tokens),
        written - hour,
        usage.cache_read_input_tokens or 0,
        cache_write_1h=hour,
        thinking=details.thinking_tokens if details else 0,
    )
