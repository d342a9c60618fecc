"""The interface to a language model, whatever its wire format: a request in, a response or a refusal out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from subterra_jobs.dialogue.turn_limit import TURN_TOKENS
from subterra_jobs.llm.behavior.reasons import code_in, quoted, reason_in
from subterra_jobs.llm.rate_limit import Limit

CALL_TIMEOUT_SECONDS = 120.0
_THINKING_TOKENS_PER_SECOND = 40
"""Slowest model that is waited for."""
UNEXPECTED_ANSWER = "UnexpectedAnswer"
"""Kind of a call whose response is not of the API's form."""

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
    thinking_tokens: int = 0
    """Room for thinking before the response, on top of `max_tokens`."""

    @property
    def output_limit(self) -> int:
        """Tokens that the provider may bill as output: what is thought and what is answered."""
        return self.max_tokens + self.thinking_tokens

    @property
    def thinking_seconds(self) -> float:
        """Seconds that thinking may take, on top of `CALL_TIMEOUT_SECONDS`."""
        return self.thinking_tokens / _THINKING_TOKENS_PER_SECOND

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
    """All tokens that the model wrote, thinking included."""
    cache_write: int = 0
    cache_read: int = 0
    cache_write_1h: int = 0
    """Tokens written to the cache for an hour rather than five minutes, which costs more; not part of `cache_write`."""
    thinking: int = 0
    """Tokens of `output` that were thinking, as far as the provider says."""
    price_factor: Decimal = Decimal(1)
    """By how much the service tier that answered is dearer than the standard one."""

    @property
    def sent(self) -> int:
        """All tokens of the prompt."""
        return self.input + self.cache_write + self.cache_write_1h + self.cache_read


@dataclass(frozen=True)
class Response:
    """A model's response."""

    text: str
    cut: str | None
    """Why the text is incomplete or missing (`behavior.stops`), or the provider's own reason; `None` for a complete text."""
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
    """True if the provider may have billed the call, and did not say what."""
    usage: Usage | None = None
    """What was billed nevertheless, if the provider says so."""
    code: str = ""
    """The provider's code or type of the error."""

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
    """An SDK's APIError as RefusedError; both SDKs come from one generator and have the same errors.

    Without a response the SDK says no more than that there is none; the connection's own error says why.
    """
    response, body = getattr(error, "response", None), getattr(error, "body", None)
    why = str(error.__cause__ or "") if response is None else ""
    return RefusedError(
        reason_in(body, why or str(error.message)),
        kind=type(error).__name__,
        status=getattr(error, "status_code", None),
        retry_after=None if response is None else _seconds(response.headers.get("retry-after", "")),
        limits=limits,
        maybe_billed=_timed_out(error),
        code=code_in(body),
    )


def unexpected_answer(body: object, limits: Mapping[str, Limit], usage: Usage | None = None) -> RefusedError:
    """A response with status 200 that is not of the API's form. Only JSON can come from a model, and may have been billed."""
    told = usage is not None or not isinstance(body, Mapping) or "error" in body
    return RefusedError(
        f"an answer of unexpected form: {quoted(body)}",
        kind=UNEXPECTED_ANSWER,
        status=200,
        limits=limits,
        maybe_billed=not told,
        usage=usage,
        code=code_in(body),
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
