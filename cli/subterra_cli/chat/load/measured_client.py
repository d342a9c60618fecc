"""A client that measures each request and never repeats one: what fails here would have failed for a customer."""

import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from subterra_jobs.evaluate.simulate.vllm_client import UnplayableError, VLLMClient

ROUTE = "/v1/chat/completions"
NOT_RECORDED = {"x-subterra-record": "no"}
"""These customers are no customers of the agent's, so `spec.monitoring` leaves them out."""


@dataclass(frozen=True)
class MeasuredRequest:
    """A request. Times are in seconds, `began` by this machine's monotonic clock."""

    began: float
    seconds: float
    first_token: float | None
    """From the request to its first token; `None` if the reply was not streamed or had none."""
    prompt_tokens: int
    completion_tokens: int
    error: str | None
    """The kind of failure, such as `HTTP 503` or `ReadTimeout`; `None` for a complete reply."""


@dataclass
class _Attempt:
    """A request that is being made."""

    began: float = field(default_factory=time.monotonic)
    first_token: float | None = None

    def measured(self, usage: Mapping[str, Any] | None, error: str | None) -> MeasuredRequest:
        tokens = [int((usage or {}).get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
        return MeasuredRequest(self.began, time.monotonic() - self.began, self.first_token, tokens[0], tokens[1], error)


class MeasuredClient(VLLMClient):
    """Adds each request to `requests`; with `stream` it reads replies token by token, save those that may call tools."""

    def __init__(
        self, http: httpx.AsyncClient, model: str, max_tokens: int, requests: list[MeasuredRequest], *, stream: bool
    ) -> None:
        super().__init__(http, model, max_tokens)
        self._connection, self._requests, self._stream = http, requests, stream

    async def post(self, body: dict[str, Any]) -> Any:
        """JSON of the response. Raises UnplayableError with the kind of failure."""
        attempt, answer = _Attempt(), dict[str, Any]()
        error: str | None = None
        try:
            read = self._streamed if self._stream and "tools" not in body else self._whole
            answer = await read(body, attempt)
        except httpx.HTTPStatusError as failed:
            error = f"HTTP {failed.response.status_code}"
        except httpx.HTTPError as failed:
            error = type(failed).__name__
        except (ValueError, LookupError, TypeError, AttributeError):
            error = "unreadable reply"
        self._requests.append(attempt.measured(answer.get("usage"), error))
        if error is not None:
            raise UnplayableError(error, server_failed=True)
        return answer

    async def _whole(self, body: dict[str, Any], attempt: _Attempt) -> dict[str, Any]:
        response = await self._connection.post(ROUTE, json=body, headers=NOT_RECORDED)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return {**answer, "choices": [answer["choices"][0]]}

    async def _streamed(self, body: dict[str, Any], attempt: _Attempt) -> dict[str, Any]:
        """The reply as if it had come in one piece. Raises ValueError when it was cut."""
        asked = body | {"stream": True, "stream_options": {"include_usage": True}}
        text, usage = "", dict[str, Any]()
        ended: str | None = None
        async with self._connection.stream("POST", ROUTE, json=asked, headers=NOT_RECORDED) as response:
            response.raise_for_status()
            async for event in _events(response):
                usage = event.get("usage") or usage
                for choice in event["choices"]:
                    part, ended = choice["delta"].get("content") or "", choice.get("finish_reason") or ended
                    if part and attempt.first_token is None:
                        attempt.first_token = time.monotonic() - attempt.began
                    text += part
        if ended is None:
            raise ValueError("the stream ended before the reply")
        return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": ended}], "usage": usage}


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream, which is read to its end, so that its connection can be kept.

    An error that comes as an event has no choices: KeyError for the reader.
    """
    async for line in response.aiter_lines():
        content = line.removeprefix("data:").strip()
        if line.startswith("data:") and content != "[DONE]":
            yield json.loads(content)
