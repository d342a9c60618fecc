"""The interface to a language model, whatever its wire format: a request in, a response or a refusal out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from subterra_jobs.llm.rate_limit import Limit

TURN_TOKENS = 400
"""Longest turn of a conversation."""
CALL_TIMEOUT_SECONDS = 120.0

Message = Mapping[str, str]
"""`role` (user or assistant) and `content`."""


@dataclass(frozen=True)
class Request:
    """One call. `messages` alternate, beginning with the user's; text that many calls share belongs into `system`."""

    system: str
    messages: tuple[Message, ...]
    max_tokens: int = TURN_TOKENS
    schema: Mapping[str, Any] | None = None
    """JSON schema of the response; `None` for plain text."""

    @property
    def size(self) -> int:
        """Bytes of text, an upper bound of the tokens for any tokenizer."""
        texts = (self.system, *(message["content"] for message in self.messages), str(self.schema or ""))
        return sum(len(text.encode()) for text in texts)


def json_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """JSON schema of an object with all of these properties and no others."""
    return {"type": "object", "properties": dict(properties), "required": list(properties), "additionalProperties": False}


def single_message(system: str, text: str) -> Request:
    """A request with one message, answered with at most one turn."""
    return Request(system, ({"role": "user", "content": text},))


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider bills them; `input` excludes those written to and read from its cache."""

    input: int
    output: int
    cache_write: int = 0
    cache_read: int = 0


@dataclass(frozen=True)
class Response:
    """A model's response."""

    text: str
    cut: str | None
    """The provider's reason when the text is incomplete."""
    usage: Usage | None
    """`None` when the provider did not report it."""
    limits: Mapping[str, Limit] = field(default_factory=dict)


@dataclass(eq=False)
class RefusedError(Exception):
    """A call without a response."""

    message: str
    kind: str
    """Type of the SDK's error."""
    status: int | None = None
    """HTTP status; `None` when there was no HTTP response."""
    retry_after: float | None = None
    limits: Mapping[str, Limit] = field(default_factory=dict)
    maybe_billed: bool = False

    def __str__(self) -> str:
        return self.message


class Client(Protocol):
    """One provider's wire format."""

    async def complete(self, request: Request) -> Response:
        """One call, without retries. Raises RefusedError."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...


def refused_error(error: Any, limits: Mapping[str, Limit]) -> RefusedError:
    """An SDK's APIError as RefusedError; both SDKs come from one generator and have the same errors."""
    response = getattr(error, "response", None)
    return RefusedError(
        " ".join(str(error.message).split()),
        kind=type(error).__name__,
        status=getattr(error, "status_code", None),
        retry_after=None if response is None else _seconds(response.headers.get("retry-after", "")),
        limits=limits,
        maybe_billed=_timed_out(error),
    )


def parse_limits(headers: Mapping[str, str], names: Mapping[str, tuple[str, str]]) -> dict[str, Limit]:
    """Limits per minute from response headers. `names` has each limit's two headers; values that are not positive mean none."""
    limits = {}
    for name, (limit, remaining) in names.items():
        try:
            limits[name] = Limit(float(headers[limit]), float(headers[remaining]))
        except (KeyError, ValueError):
            continue
    return {name: limit for name, limit in limits.items() if limit.per_minute > 0}


def _seconds(retry_after: str) -> float | None:
    """These APIs send no dates."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _timed_out(error: Any) -> bool:
    """True when a request was sent and we gave up waiting: the provider may have finished and billed it.

    A connection that the provider closed brought no response; providers bill responses.
    """
    cause = type(error.__cause__).__name__
    return type(error).__name__ == "APITimeoutError" and cause not in ("ConnectTimeout", "PoolTimeout")
