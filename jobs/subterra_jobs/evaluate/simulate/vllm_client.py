"""Client of a model served by vLLM, through the OpenAI chat API."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from subterra_core.procedure.graph import Hop
from subterra_jobs.dialogue.prompt_blocks import GREETING_REQUEST
from subterra_jobs.errors import InfrastructureError

ChatMessages = Sequence[Mapping[str, Any]]
"""Turns of a conversation, with `role` and `content`; a turn in which tools were called has its single `messages` too."""
ATTEMPTS = 5
BACKOFF_SECONDS = 0.5
TIMEOUT_SECONDS = 120.0


class UnplayableError(Exception):
    """The agent gave no usable reply. `server_failed` when its server was unreachable, overloaded or broken."""

    def __init__(self, message: str, *, server_failed: bool) -> None:
        super().__init__(message)
        self.server_failed = server_failed


@dataclass(frozen=True)
class Reply:
    """One agent turn with its time, tokens and cost."""

    text: str
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    usd: str | None = None
    """Cost charged by a provider; `None` for a model on own hardware."""
    calls: int = 1
    messages: tuple[dict[str, Any], ...] = ()
    """Of a turn with tool calls: the messages with calls, results and words. The text has a mark for each call."""
    cache_read: int = 0
    """Prompt tokens that were read from a cache, as far as the server says."""
    route: tuple[Hop, ...] = ()
    """Node and target of each choice that an orchestrator's model made in this turn."""


@dataclass(frozen=True)
class Completion:
    """A response: the message as the server sent it, and the reply in it."""

    message: Mapping[str, Any]
    reply: Reply


class VLLMClient:
    """A model served by vLLM: the candidate or a reference."""

    def __init__(self, http: httpx.AsyncClient, model: str, max_tokens: int, backoff: float = BACKOFF_SECONDS) -> None:
        self._http, self.model, self._max_tokens, self._backoff = http, model, max_tokens, backoff

    async def reply(self, chat: ChatMessages, context: str = "") -> Reply:
        """The agent's next turn; `context` describes this customer. Raises UnplayableError."""
        return (await self.complete(chat, context)).reply

    async def complete(self, chat: ChatMessages, context: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> Completion:
        """The response to a chat, with the calls of `tools` in its message. Raises UnplayableError."""
        system = [{"role": "system", "content": context}] if context else []
        messages = [*system, *chat] or [GREETING_REQUEST]
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": self._max_tokens}
        started = time.monotonic()
        response = await self.post(body | ({"tools": list(tools)} if tools else {}))
        reply = _parse_response(response, time.monotonic() - started)
        return Completion(response["choices"][0]["message"], reply)

    async def post(self, body: dict[str, Any]) -> Any:
        """JSON of the response; retries transport errors, 429 and 5xx."""
        problem = UnplayableError("no request was sent", server_failed=True)
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(self._backoff * 2**attempt)
            try:
                response = await self._http.post("/v1/chat/completions", json=body)
                if response.status_code < 400:
                    return response.json()
            except httpx.TransportError as error:
                problem = UnplayableError(f"{type(error).__name__}: {error}", server_failed=True)
                continue
            except ValueError as error:
                raise UnplayableError(f"the server's response is not JSON: {error}", server_failed=False) from None
            retry = response.status_code >= 500 or response.status_code == 429
            problem = UnplayableError(f"the server responded {response.status_code}: {response.text[:300]}", server_failed=retry)
            if not retry:
                break
        raise problem


def _parse_response(response: Any, seconds: float) -> Reply:
    """The reply in a chat completion. Raises UnplayableError."""
    try:
        choice, usage = response["choices"][0], response.get("usage") or {}
        return Reply(
            text=str(choice["message"]["content"] or ""),
            seconds=seconds,
            prompt_tokens=int(usage.get("prompt_tokens", 0)),
            completion_tokens=int(usage.get("completion_tokens", 0)),
            finish_reason=str(choice.get("finish_reason") or ""),
            cache_read=int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UnplayableError(f"the server's response is not a chat completion: {error!r}", server_failed=False) from None


async def wait_for_server(http: httpx.AsyncClient, wait_seconds: float) -> tuple[str, str]:
    """Name of the served model and version of the server, once it answers. Raises InfrastructureError."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            response = await http.get("/v1/models")
            response.raise_for_status()
            return str(response.json()["data"][0]["id"]), await _version(http)
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            if time.monotonic() >= deadline:
                raise InfrastructureError(
                    f"no model is served at {http.base_url} after {wait_seconds:.0f} s ({error!r}); "
                    "check the log of the vllm container"
                ) from None
            await asyncio.sleep(1)


async def _version(http: httpx.AsyncClient) -> str:
    """vLLM's version; `unknown` for another server."""
    try:
        response = await http.get("/version")
        return str(response.json()["version"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return "unknown"
