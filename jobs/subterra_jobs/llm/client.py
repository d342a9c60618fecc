"""What we need of a provider, whatever its wire format: one call in, an answer or a refusal out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from subterra_jobs.llm.rate_limit import Limit

TURN_TOKENS = 400
"""Of one turn of a chat."""
CALL_TIMEOUT_SECONDS = 120.0

Message = Mapping[str, str]
"""``role`` (user or assistant) and ``content``."""


@dataclass(frozen=True)
class Request:
    """One call. ``messages`` alternate, beginning with the user's; what is the same in many calls belongs into ``system``."""

    system: str
    messages: tuple[Message, ...]
    max_tokens: int = TURN_TOKENS
    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer; none for plain text."""

    @property
    def size(self) -> int:
        """Bytes of text: no tokenizer makes more tokens than bytes."""
        texts = (self.system, *(message["content"] for message in self.messages), str(self.schema or ""))
        return sum(len(text.encode()) for text in texts)


def json_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """JSON schema of an object with all of these properties and no others."""
    return {"type": "object", "properties": dict(properties), "required": list(properties), "additionalProperties": False}


def question(system: str, text: str) -> Request:
    """A call with one message, answered with a turn's worth of words."""
    return Request(system, ({"role": "user", "content": text},))


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider bills them; ``input`` is what was neither written to nor read from its cache."""

    input: int
    output: int
    cache_write: int = 0
    cache_read: int = 0


@dataclass(frozen=True)
class Answer:
    """What was said. ``cut`` is the provider's reason when it did not come to an end; no usage when the provider told none."""

    text: str
    cut: str | None
    usage: Usage | None
    limits: Mapping[str, Limit] = field(default_factory=dict)


class RefusedError(Exception):
    """No answer. ``status`` is the HTTP status, none when there was no response."""

    def __init__(
        self, said: str, *, what: str, status: int | None = None, retry_after: float | None = None,
        limits: Mapping[str, Limit] | None = None, perhaps_paid: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(said)
        self.said, self.what, self.status = said, what, status
        self.retry_after, self.limits, self.perhaps_paid = retry_after, limits or {}, perhaps_paid


class Client(Protocol):
    """One provider's wire format."""

    async def ask(self, request: Request) -> Answer:
        """One call, tried once. Raises RefusedError."""
        ...

    async def close(self) -> None:
        """Gives back connections."""
        ...


def refusal(error: Any, limits: Mapping[str, Limit]) -> RefusedError:
    """An SDK's APIError; both SDKs come from one generator and have the same errors."""
    response = getattr(error, "response", None)
    return RefusedError(
        " ".join(str(error.message).split()), what=type(error).__name__, status=getattr(error, "status_code", None),
        retry_after=None if response is None else _seconds(response.headers.get("retry-after", "")), limits=limits,
        perhaps_paid=_timed_out(error),
    )  # fmt: skip


def _seconds(told: str) -> float | None:
    """Dates are not used by these APIs."""
    try:
        seconds = float(told)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _timed_out(error: Any) -> bool:
    """The provider may have finished a call that we gave up, if it was sent.

    A connection that the provider cut brought no answer; providers bill answers.
    """
    cause = type(error.__cause__).__name__
    return type(error).__name__ == "APITimeoutError" and cause not in ("ConnectTimeout", "PoolTimeout")
