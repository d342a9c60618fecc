"""Client of the chat completions API, of OpenAI or any compatible server. The SDK reads OPENAI_BASE_URL."""

from collections.abc import Mapping
from typing import Any

import openai

from subterra_jobs.llm.client import CALL_TIMEOUT_SECONDS, Request, Response, Usage, parse_limits, refused_error
from subterra_jobs.llm.rate_limit import Limit

_LIMIT_HEADERS = {name: (f"x-ratelimit-limit-{name}", f"x-ratelimit-remaining-{name}") for name in ("requests", "tokens")}


class OpenAIClient:
    """One model of the endpoint, which caches prompts by itself as long as their constant part comes first."""

    def __init__(self, model: str, key: str, base_url: str | None = None) -> None:
        self._model = model
        # The SDK requires a key, and a self-hosted server mostly has none. Retries are ours.
        http = openai.DefaultAioHttpClient(timeout=CALL_TIMEOUT_SECONDS)
        self._client = openai.AsyncOpenAI(api_key=key or "none", base_url=base_url, max_retries=0, http_client=http)

    async def complete(self, request: Request) -> Response:
        """See `Client`."""
        messages: list[Any] = [{"role": "system", "content": request.system}, *request.messages]
        try:
            response = await self._client.chat.completions.with_raw_response.create(
                model=self._model,
                max_completion_tokens=request.max_tokens,
                messages=messages,
                response_format=openai.omit if request.schema is None else _json(request.schema),
            )
        except openai.APIError as error:
            raw = getattr(error, "response", None)
            raise refused_error(error, {} if raw is None else limits_of(raw.headers)) from error
        completion = response.parse()
        choice = completion.choices[0]
        cut = None if choice.finish_reason == "stop" else str(choice.finish_reason)
        return Response(choice.message.content or "", cut, _usage(completion.usage), limits_of(response.headers))

    async def close(self) -> None:
        """See `Client`."""
        await self._client.close()


def limits_of(headers: Mapping[str, str]) -> dict[str, Limit]:
    """The account's limits per minute from response headers; -1 stands for none."""
    return parse_limits(headers, _LIMIT_HEADERS)


def _json(schema: Mapping[str, Any]) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _usage(usage: openai.types.CompletionUsage | None) -> Usage | None:
    """OpenAI's input count includes tokens read from the cache."""
    if usage is None:
        return None
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens if details else None) or 0
    return Usage(usage.prompt_tokens - cached, usage.completion_tokens, cache_read=cached)
