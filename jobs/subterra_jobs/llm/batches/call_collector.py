"""Finds out which calls some work will make, by doing it with a client that pays nothing."""

from typing import NoReturn

from subterra_jobs.llm.client import Request
from subterra_jobs.llm.metered_client import Call, MeteredClient
from subterra_jobs.llm.response_cache import CachedResponse


class UnansweredCallError(Exception):
    """The response is not in the cache; the call was noted."""


class CallCollector:
    """A `Caller` that returns cached responses and notes the calls that lack one, with the keys that they will be kept under."""

    def __init__(self, client: MeteredClient) -> None:
        self._client = client
        self.calls: dict[str, Call] = {}
        """By cache key."""

    async def complete(self, key: str, request: Request, labels: dict[str, str], priority: int = 0) -> tuple[CachedResponse, bool]:
        """The cached response. Raises UnansweredCallError without one."""
        return await self._client.complete(key, request, labels, priority, pay=self._note)

    async def close(self) -> None:
        """Does nothing: the client is not its own."""

    async def _note(self, call: Call) -> NoReturn:
        self.calls[call.key] = call
        raise UnansweredCallError
