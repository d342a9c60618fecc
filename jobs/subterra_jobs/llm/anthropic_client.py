"""The Messages API. Key and base URL come from ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import anthropic

from subterra_jobs.llm.client import CALL_TIMEOUT_SECONDS, Answer, Request, Usage, refusal
from subterra_jobs.llm.prompt_cache import cache_minimum, tokens
from subterra_jobs.llm.rate_limit import Limit

log = logging.getLogger("subterra")

_LIMITS = ("requests", "input-tokens", "output-tokens")


class AnthropicClient:
    """One model of the provider."""

    def __init__(self, model: str, key: str) -> None:
        self._model = model
        # Retries are ours: the SDK's own would be neither counted nor bounded by our patience. aiohttp takes half of httpx's time.
        self._client = anthropic.AsyncAnthropic(
            api_key=key, base_url=os.environ.get("ANTHROPIC_BASE_URL") or None, max_retries=0,
            http_client=anthropic.DefaultAioHttpClient(timeout=CALL_TIMEOUT_SECONDS),
        )  # fmt: skip
        self._told = False

    async def ask(self, request: Request) -> Answer:
        """See `Client`."""
        chat: list[Any] = list(request.messages)
        try:
            response = await self._client.messages.with_raw_response.create(
                model=self._model, max_tokens=request.max_tokens, system=self._system(request.system), messages=chat,
                output_config=anthropic.omit if request.schema is None else _json(request.schema),
            )  # fmt: skip
        except anthropic.APIError as error:
            told = getattr(error, "response", None)
            raise refusal(error, {} if told is None else limits_of(told.headers)) from error
        message = await response.parse()
        text = "".join(block.text for block in message.content if block.type == "text")
        cut = None if message.stop_reason in ("end_turn", "stop_sequence") else str(message.stop_reason)
        return Answer(text, cut, _usage(message.usage), limits_of(response.headers))

    async def close(self) -> None:
        """See `Client`."""
        await self._client.close()

    def _system(self, text: str) -> Any:
        """Marked for the cache where the model can keep it at all."""
        block: dict[str, Any] = {"type": "text", "text": text}
        size, minimum = tokens(len(text.encode())), cache_minimum("anthropic", self._model)
        if size >= minimum:
            return [block | {"cache_control": {"type": "ephemeral"}}]
        if not self._told:
            self._told = True
            log.info(
                "the part of the prompt that is the same in every call has about %d tokens; %s caches none below %d, so each call "
                "pays for it in full", size, self._model, minimum
            )  # fmt: skip
        return [block]


def _json(schema: Mapping[str, Any]) -> Any:
    return {"format": {"type": "json_schema", "schema": schema}}


def limits_of(headers: Mapping[str, str]) -> dict[str, Limit]:
    """What the headers tell of the account's limits."""
    found = {}
    for name in _LIMITS:
        try:
            prefix = f"anthropic-ratelimit-{name}"
            found[name] = Limit(float(headers[f"{prefix}-limit"]), float(headers[f"{prefix}-remaining"]))
        except (KeyError, ValueError):
            continue
    return {name: limit for name, limit in found.items() if limit.per_minute > 0}


def _usage(usage: anthropic.types.Usage) -> Usage:
    return Usage(
        usage.input_tokens, usage.output_tokens, usage.cache_creation_input_tokens or 0, usage.cache_read_input_tokens or 0
    )
