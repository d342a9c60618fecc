"""Client of the Messages API. The SDK reads ANTHROPIC_BASE_URL."""

import logging
from collections.abc import Mapping
from typing import Any

import anthropic

from subterra_jobs.llm.client import CALL_TIMEOUT_SECONDS, Request, Response, Usage, parse_limits, refused_error
from subterra_jobs.llm.prompt_cache import cache_minimum, estimated_tokens
from subterra_jobs.llm.rate_limit import Limit

log = logging.getLogger("subterra")

_LIMIT_HEADERS = {
    name: (f"anthropic-ratelimit-{name}-limit", f"anthropic-ratelimit-{name}-remaining")
    for name in ("requests", "input-tokens", "output-tokens")
}


class AnthropicClient:
    """One model of the provider."""

    def __init__(self, model: str, key: str) -> None:
        self._model = model
        # The SDK's own retries would be neither counted nor bounded by our patience. aiohttp needs half of httpx's CPU time.
        http = anthropic.DefaultAioHttpClient(timeout=CALL_TIMEOUT_SECONDS)
        self._client = anthropic.AsyncAnthropic(api_key=key, max_retries=0, http_client=http)
        self._logged_uncached = False

    async def complete(self, request: Request) -> Response:
        """See `Client`."""
        messages: list[Any] = list(request.messages)
        try:
            response = await self._client.messages.with_raw_response.create(
                model=self._model,
                max_tokens=request.max_tokens,
                system=self._system(request.system),
                messages=messages,
                output_config=anthropic.omit if request.schema is None else _json(request.schema),
            )
        except anthropic.APIError as error:
            raw = getattr(error, "response", None)
            raise refused_error(error, {} if raw is None else limits_of(raw.headers)) from error
        message = await response.parse()
        text = "".join(block.text for block in message.content if block.type == "text")
        cut = None if message.stop_reason in ("end_turn", "stop_sequence") else str(message.stop_reason)
        return Response(text, cut, _usage(message.usage), limits_of(response.headers))

    async def close(self) -> None:
        """See `Client`."""
        await self._client.close()

    def _system(self, text: str) -> Any:
        """The system prompt, marked for the cache if it is long enough for the model to cache it."""
        block: dict[str, Any] = {"type": "text", "text": text}
        size, minimum = estimated_tokens(len(text.encode())), cache_minimum("anthropic", self._model)
        if size >= minimum:
            return [block | {"cache_control": {"type": "ephemeral"}}]
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


def _json(schema: Mapping[str, Any]) -> Any:
    return {"format": {"type": "json_schema", "schema": schema}}


def _usage(usage: anthropic.types.Usage) -> Usage:
    return Usage(
        usage.input_tokens, usage.output_tokens, usage.cache_creation_input_tokens or 0, usage.cache_read_input_tokens or 0
    )
