"""The interface to a provider's batches, whatever its wire format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from subterra_jobs.llm.behavior.prompt_cache import hour_pays
from subterra_jobs.llm.client import RefusedError, Request, Response

CREATE_TIMEOUT_SECONDS = 600.0
"""For the upload of all requests of a batch."""


@dataclass(frozen=True)
class BatchLimits:
    """The most that one batch takes."""

    calls: int
    bytes: int


@dataclass(frozen=True)
class BatchState:
    """What a provider says of a batch."""

    ended: bool
    answered: int
    """Calls that were answered; 0 until the end where the provider counts only then."""
    total: int


@dataclass(frozen=True)
class Sighting:
    """A batch in the provider's list that may be the one that is looked for; `certain` once that is known."""

    id: str
    certain: bool


BatchItem = Response | RefusedError
"""What became of one call: a response, which is billed, or why there is none."""


class BatchApi(Protocol):
    """Batches of one account. Every method raises RefusedError."""

    limits: BatchLimits

    async def create(self, name: str, requests: Mapping[str, Request]) -> str:
        """Begins a batch of requests by custom id; returns the provider's id. `name` is ours, by which `find` finds it again."""
        ...

    async def find(self, name: str, count: int, since: datetime) -> Sighting | None:
        """The batch of `count` calls that was begun as `name` after `since`, of which no id is known."""
        ...

    async def state(self, batch: str) -> BatchState:
        """The state of a batch."""
        ...

    async def results(self, batch: str) -> Mapping[str, BatchItem]:
        """What became of each call of a batch that has ended, by custom id. All that were answered are there."""
        ...

    async def cancel(self, batch: str) -> None:
        """Asks the provider to end a batch early; what is answered by then stays, and is billed."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...


def custom_id(name: str, index: int) -> str:
    """Identifier of the batch's call number `index`."""
    return f"{name}-{index}"


def is_of(name: str, identifier: str) -> bool:
    """Whether a custom id belongs to the batch of this name."""
    return identifier.startswith(f"{name}-")


def shared_systems(requests: Sequence[Request]) -> frozenset[str]:
    """System prompts shared by enough requests that caching them for an hour pays."""
    counts: dict[str, int] = {}
    for request in requests:
        counts[request.system] = counts.get(request.system, 0) + 1
    return frozenset(system for system, count in counts.items() if hour_pays(count))


def incomplete(found: int, expected: int) -> RefusedError:
    """The error for incomplete results on a connection that ended normally."""
    return RefusedError(f"{found} of {expected} results arrived", kind="IncompleteResults")


def unusable(kind: str, message: str, code: str = "", body: Any = None) -> RefusedError:
    """Why a call of a batch has no response, at no cost."""
    return RefusedError(message or kind, kind=kind, status=None if body is None else 400, code=code)
