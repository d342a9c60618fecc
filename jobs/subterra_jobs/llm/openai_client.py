"""The chat completions API, of OpenAI or of any server that speaks it. OPENAI_API_KEY has the key."""

from collections.abc import Mapping
from typing import Any

import openai

from subterra_jobs.llm.client import CALL_TIMEOUT_SECONDS, Answer, Request, Usage, refusal
from subterra_jobs.llm.rate_limit import Limit

_LIMITS = ("requests", "tokens")


class OpenAIClient:
    """One model of the endpoint. Caching is the endpoint's own doing: it needs no more than a constant part that comes first."""

    def __init__(self, model: str, key: str, base_url: str | None = None) -> None:
        self._model = model
        # The SDK wants some key, a server of one's own mostly none. Retries are ours.
        self._client = openai.AsyncOpenAI(
            api_key=key or "none", base_url=base_url, max_retries=0,
            http_client=openai.DefaultAioHttpClient(timeout=CALL_TIMEOUT_SECONDS),
        )  # fmt: skip

    async def ask(self, request: Request) -> Answer:
        """See `Client`."""
        chat: list[Any] = [{"role": "system", "content": request.system}, *request.messages]
        try:
            response = await self._client.chat.completions.with_raw_response.create(
                model=self._model, max_completion_tokens=request.max_tokens, messages=chat,
                response_format=openai.omit if request.schema is None else _json(request.schema),
            )  # fmt: skip
        except openai.APIError as error:
            told = getattr(error, "response", None)
            raise refusal(error, {} if told is None else limits_of(told.headers)) from error
        completion = response.parse()
        choice = completion.choices[0]
        cut = None if choice.finish_reason == "stop" else str(choice.finish_reason)
        return Answer(choice.message.content or "", cut, _usage(completion.usage), limits_of(response.headers))

    async def close(self) -> None:
        """See `Client`."""
        await self._client.close()


def _json(schema: Mapping[str, Any]) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def limits_of(headers: Mapping[str, str]) -> dict[str, Limit]:
    """What the headers tell of the account's limits; -1 stands for none."""
    found = {}
    for name in _LIMITS:
        try:
            limit, left = headers[f"x-ratelimit-limit-{name}"], headers[f"x-ratelimit-remaining-{name}"]
            found[name] = Limit(float(limit), float(left))
        except (KeyError, ValueError):
            continue
    return {name: limit for name, limit in found.items() if limit.per_minute > 0}


def _usage(usage: openai.types.CompletionUsage | None) -> Usage | None:
    """Here the input counts what was read from the cache too."""
    if usage is None:
        return None
    details = usage.prompt_tokens_details
    read = (details.cached_tokens if details else None) or 0
    return Usage(usage.prompt_tokens - read, usage.completion_tokens, cache_read=read)
