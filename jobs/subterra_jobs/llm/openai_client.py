"""Client of the chat completions API, of OpenAI or any compatible server. The SDK reads OPENAI_BASE_URL."""

import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion

from subterra_jobs.llm.behavior.reasons import is_too_long, whole_characters
from subterra_jobs.llm.behavior.stops import REFUSAL, stop_of
from subterra_jobs.llm.client import (
    CALL_TIMEOUT_SECONDS,
    RefusedError,
    Request,
    Response,
    Usage,
    parse_limits,
    refused_error,
    unexpected_answer,
)
from subterra_jobs.llm.rate_limit import Limit

log = logging.getLogger("subterra")

_LIMIT_HEADERS = {name: (f"x-ratelimit-limit-{name}", f"x-ratelimit-remaining-{name}") for name in ("requests", "tokens")}
_LIMIT, _OLD_LIMIT, _TIER = "max_completion_tokens", "max_tokens", "service_tier"
_TIER_FACTORS = {"priority": Decimal(2), "fast": Decimal(2)}
"""Prices of service tiers relative to the standard one (developers.openai.com, models: "Fast mode")."""
_OPEN, _CLOSE = "<think>", "</think>"


class OpenAIClient:
    """One model of the endpoint, which caches prompts by itself as long as their constant part comes first.

    `effort` is sent with each request unless it is `None`; `extra_body` has further fields of each request.
    """

    def __init__(
        self,
        model: str,
        key: str,
        base_url: str | None = None,
        effort: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        self._model, self._effort, self._extra_body = model, effort, dict(extra_body or {})
        self._limit = _LIMIT
        # A project may have a dearer tier as its default; other endpoints have none.
        self._tier = "default" if base_url is None else None
        # The SDK requires a key, and a self-hosted server mostly has none. Retries are ours.
        http = openai.DefaultAioHttpClient(timeout=CALL_TIMEOUT_SECONDS)
        self.sdk = openai.AsyncOpenAI(api_key=key or "none", base_url=base_url, max_retries=0, http_client=http)

    async def complete(self, request: Request) -> Response:
        """See `Client`. A field that the endpoint does not know is replaced or left out from then on, for no money."""
        while True:
            fields = self._fields(request) | {"timeout": CALL_TIMEOUT_SECONDS + request.thinking_seconds}
            try:
                response = await self.sdk.chat.completions.with_raw_response.create(**fields)
                break
            except openai.APIError as error:
                raw = getattr(error, "response", None)
                refused = refused_error(error, {} if raw is None else limits_of(raw.headers))
                if not self._adapted(refused, fields):
                    raise refused from error
        limits = limits_of(response.headers)
        try:
            completion: object = response.parse()
        except (openai.APIError, ValueError):
            completion = response.text
        return read_completion(completion, limits)

    async def close(self) -> None:
        """See `Client`."""
        await self.sdk.close()

    def _fields(self, request: Request) -> dict[str, Any]:
        tier = {} if self._tier is None else {_TIER: self._tier}
        return self.body(request) | tier | ({"extra_body": self._extra_body} if self._extra_body else {})

    def body(self, request: Request) -> dict[str, Any]:
        """The request's body at the provider's own API, without the service tier."""
        fields: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "system", "content": request.system}, *request.messages],
            self._limit: request.output_limit,
        }
        if request.schema is not None:
            fields["response_format"] = _json(request.schema)
        return fields | ({"reasoning_effort": self._effort} if self._effort is not None else {})

    def _adapted(self, refused: RefusedError, fields: Mapping[str, Any]) -> bool:
        """Whether the next request leaves out what the endpoint refused. Other calls may have seen to it meanwhile."""
        if refused.status not in (400, 422) or is_too_long(refused.status, refused.code, refused.message):
            return False
        if _LIMIT in fields and _LIMIT in refused.message:
            if self._limit == _LIMIT:
                log.info("the endpoint does not know %s; sending %s instead", _LIMIT, _OLD_LIMIT)
            self._limit = _OLD_LIMIT
            return True
        if _TIER in fields and _TIER in refused.message:
            self._tier = None
            return True
        return False


def limits_of(headers: Mapping[str, str]) -> dict[str, Limit]:
    """The account's limits per minute from response headers; -1 stands for none."""
    return parse_limits(headers, _LIMIT_HEADERS)


def _json(schema: Mapping[str, Any]) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def read_completion(completion: object, limits: Mapping[str, Limit]) -> Response:
    """The response in a body, which the SDK does not check. Raises RefusedError for one of another form."""
    body = completion.to_dict() if isinstance(completion, ChatCompletion) else completion
    try:
        return _response(completion, limits)
    except (AttributeError, IndexError, TypeError, ValueError):
        raise unexpected_answer(body, limits, _usage_or_none(completion)) from None


def _response(completion: Any, limits: Mapping[str, Limit]) -> Response:
    choice, usage = completion.choices[0], _usage(completion)
    thoughts, text = _split_thinking(_text(choice.message.content))
    told = (getattr(choice.message, name, None) for name in ("reasoning_content", "reasoning"))
    thought = bool(thoughts or any(told) or (usage and usage.thinking))
    if choice.message.refusal:
        return Response(text, REFUSAL, usage, limits)
    # Without a word of thinking and without a word at all, the limit can only have been used up by thinking.
    cut = stop_of(choice.finish_reason, complete=("stop",), text=text, thought=thought or not text.strip())
    return Response(text, cut, usage, limits)


def _text(content: Any) -> str:
    """The text of a message, which some servers send in parts. Raises TypeError for anything else."""
    if isinstance(content, list):
        return whole_characters("".join(part["text"] for part in content if part.get("type") == "text"))
    if content is None or isinstance(content, str):
        return whole_characters(content or "")
    raise TypeError(content)


def _split_thinking(text: str) -> tuple[str, str]:
    """Thinking at the start of a text, where a server does not take it apart, and the text after it.

    Some chat templates open it in the prompt, so that only its end is in the text.
    """
    if not text.lstrip().startswith(_OPEN) and _CLOSE not in text:
        return "", text
    thoughts, _, rest = text.lstrip().removeprefix(_OPEN).partition(_CLOSE)
    return thoughts, rest.lstrip()


def _usage_or_none(completion: Any) -> Usage | None:
    try:
        return _usage(completion)
    except (AttributeError, TypeError, ValueError):
        return None


def _usage(completion: Any) -> Usage | None:
    """OpenAI's input count includes tokens read from the cache and written to it; its output count includes thinking.

    With others (Gemini, Grok) only the total includes thinking, which is billed as output there too.
    """
    usage: CompletionUsage | None = completion.usage
    if usage is None:
        return None
    prompt, output = usage.prompt_tokens_details, usage.completion_tokens_details
    read = (prompt.cached_tokens if prompt else None) or 0
    written = (prompt.cache_write_tokens if prompt else None) or 0
    return Usage(
        max(0, usage.prompt_tokens - read - written),
        max(int(usage.completion_tokens), (getattr(usage, "total_tokens", None) or 0) - usage.prompt_tokens),
        written,
        read,
        thinking=(output.reasoning_tokens if output else None) or 0,
        price_factor=_TIER_FACTORS.get(completion.service_tier or "", Decimal(1)),
    )
