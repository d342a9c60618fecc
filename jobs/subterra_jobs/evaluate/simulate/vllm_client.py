"""The candidate behind its OpenAI chat API, as vLLM serves it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from subterra_jobs.errors import InfrastructureError

ATTEMPTS = 5
BACKOFF_SECONDS = 0.5
TIMEOUT_SECONDS = 120.0
# vLLM refuses a request without messages (the tokenizer looks at the first one); an empty system message renders to nothing.
AGENT_BEGINS = {"role": "system", "content": ""}


class UnplayableError(Exception):
    """The agent gave no usable answer. ``lost`` when its server is to blame: not reached, overloaded or broken."""

    def __init__(self, message: str, *, lost: bool) -> None:
        super().__init__(message)
        self.lost = lost


@dataclass(frozen=True)
class Reply:
    """One agent turn with what it took."""

    text: str
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    usd: str | None = None
    """What a provider was paid for it; none for a model that we serve ourselves."""
    calls: int = 1


class Candidate:
    """A model that vLLM serves: the candidate, or an older one beside it."""

    def __init__(self, http: httpx.AsyncClient, model: str, max_tokens: int, backoff: float = BACKOFF_SECONDS) -> None:
        self._http, self.model, self._max_tokens, self._backoff = http, model, max_tokens, backoff

    async def reply(self, chat: Sequence[dict[str, str]], context: str = "") -> Reply:
        """The agent's next turn; ``context`` is what it is told about this customer. Raises UnplayableError."""
        told = [{"role": "system", "content": context}] if context else []
        messages = [*told, *chat] or [AGENT_BEGINS]
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": self._max_tokens}
        began = time.monotonic()
        answer = await self._post(body)
        try:
            choice, usage = answer["choices"][0], answer.get("usage") or {}
            return Reply(
                text=str(choice["message"]["content"] or ""), seconds=time.monotonic() - began,
                prompt_tokens=int(usage.get("prompt_tokens", 0)), completion_tokens=int(usage.get("completion_tokens", 0)),
                finish_reason=str(choice.get("finish_reason") or ""),
            )  # fmt: skip
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UnplayableError(f"the server's answer is no chat completion: {error!r}", lost=False) from None

    async def _post(self, body: dict[str, Any]) -> Any:
        """The answer's JSON; tries again where another attempt may help."""
        problem = UnplayableError("not asked", lost=True)
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(self._backoff * 2**attempt)
            try:
                response = await self._http.post("/v1/chat/completions", json=body)
                if response.status_code < 400:
                    return response.json()
            except httpx.TransportError as error:
                problem = UnplayableError(f"{type(error).__name__}: {error}", lost=True)
                continue
            except ValueError as error:
                raise UnplayableError(f"the server's answer is no JSON: {error}", lost=False) from None
            again = response.status_code >= 500 or response.status_code == 429
            problem = UnplayableError(f"the server answered {response.status_code}: {response.text[:300]}", lost=again)
            if not again:
                break
        raise problem


async def connect(http: httpx.AsyncClient, wait_seconds: float) -> tuple[str, str]:
    """The name of the model that is served and the server's version, once it answers. Raises InfrastructureError."""
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
                    "look at the log of the vllm container"
                ) from None
            await asyncio.sleep(1)


async def _version(http: httpx.AsyncClient) -> str:
    """vLLM's version; a server that is not vLLM may not say."""
    try:
        response = await http.get("/version")
        return str(response.json()["version"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return "unknown"
