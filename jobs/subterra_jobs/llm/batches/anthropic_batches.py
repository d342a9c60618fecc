"""Anthropic's Message Batches. They carry no name of ours but the custom ids, which show only in the results."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import anthropic
import httpx2
from anthropic.types.messages import MessageBatch

from subterra_jobs.llm.account import Account
from subterra_jobs.llm.anthropic_client import AnthropicClient, read_message
from subterra_jobs.llm.batches.batch_api import (
    CREATE_TIMEOUT_SECONDS,
    BatchItem,
    BatchLimits,
    BatchState,
    Sighting,
    incomplete,
    is_of,
    shared_systems,
    unusable,
)
from subterra_jobs.llm.client import RefusedError, Request, refused_error

_LIMITS = BatchLimits(calls=100_000, bytes=200_000_000)
"""platform.claude.com, batch processing: 100,000 requests or 256 MB, of which some are left for JSON around the texts."""
_CLOCK_SKEW = timedelta(minutes=5)
_PAGE = 100


class AnthropicBatches:
    """Batches of one model."""

    limits = _LIMITS

    def __init__(self, account: Account) -> None:
        self._client = AnthropicClient(account.model, account.key, account.thinking)
        self._batches = self._client.sdk.messages.batches

    async def create(self, name: str, requests: Mapping[str, Request]) -> str:
        """See `BatchApi`. The shared parts of the prompts are cached for an hour, because a batch outlasts five minutes."""
        shared = shared_systems([*requests.values()])
        body: list[Any] = [
            {"custom_id": key, "params": self._client.fields(request, cached_for_an_hour=request.system in shared)}
            for key, request in requests.items()
        ]
        async with _refusals():
            batch = await self._batches.create(requests=body, timeout=CREATE_TIMEOUT_SECONDS)
        return batch.id

    async def find(self, name: str, count: int, since: datetime) -> Sighting | None:
        """See `BatchApi`: among the batches of that time with as many calls. Their results show whose they are."""
        pending: Sighting | None = None
        for batch in await self._listed(since - _CLOCK_SKEW):
            if _total(batch) != count:
                continue
            if batch.processing_status != "ended":
                pending = pending or Sighting(batch.id, certain=False)
            elif await self._is_of(name, batch.id):
                return Sighting(batch.id, certain=True)
        return pending

    async def _listed(self, since: datetime) -> list[MessageBatch]:
        """Batches that were created after `since`; the list has the newest first."""
        found = []
        async with _refusals():
            async for batch in self._batches.list(limit=_PAGE):
                if batch.created_at < since:
                    break
                found.append(batch)
        return found

    async def _is_of(self, name: str, batch: str) -> bool:
        async with _refusals():
            async for line in await self._batches.results(batch):
                return is_of(name, line.custom_id)
        return False

    async def state(self, batch: str) -> BatchState:
        """See `BatchApi`. Anthropic counts only once the whole batch has ended."""
        async with _refusals():
            found = await self._batches.retrieve(batch)
        return BatchState(found.processing_status == "ended", found.request_counts.succeeded, _total(found))

    async def results(self, batch: str) -> Mapping[str, BatchItem]:
        """See `BatchApi`."""
        items: dict[str, BatchItem] = {}
        async with _refusals():
            counts = (await self._batches.retrieve(batch)).request_counts
            lines = await self._batches.results(batch)
            async for line in lines:
                items[line.custom_id] = _item(line.result)
        billed = sum(1 for item in items.values() if not isinstance(item, RefusedError) or item.status == 200)
        if billed < counts.succeeded:
            raise incomplete(billed, counts.succeeded)
        return items

    async def cancel(self, batch: str) -> None:
        """See `BatchApi`."""
        async with _refusals():
            await self._batches.cancel(batch)

    async def close(self) -> None:
        """See `BatchApi`."""
        await self._client.close()


def _total(batch: MessageBatch) -> int:
    counts = batch.request_counts
    return counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired


def _item(result: Any) -> BatchItem:
    if result.type == "succeeded":
        try:
            return read_message(result.message, {})
        except RefusedError as refused:
            return refused
    if result.type != "errored":
        return unusable(result.type, f"the call {'was canceled' if result.type == 'canceled' else 'has expired'}")
    error = result.error.error
    return unusable("errored", error.message, error.type, error)


@asynccontextmanager
async def _refusals() -> AsyncIterator[None]:
    """Turns what the SDK raises, also in the middle of a stream, into RefusedError."""
    try:
        yield
    except anthropic.APIError as error:
        raise refused_error(error, {}) from error
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise RefusedError(str(error) or type(error).__name__, kind=type(error).__name__) from error
