"""OpenAI's Batch API: requests and results are files, and a batch carries our name in its metadata."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import openai
from openai.types.chat import ChatCompletion

from subterra_jobs.llm.account import Account
from subterra_jobs.llm.batches.batch_api import (
    CREATE_TIMEOUT_SECONDS,
    BatchItem,
    BatchLimits,
    BatchState,
    Sighting,
    incomplete,
    unusable,
)
from subterra_jobs.llm.behavior.reasons import code_in, reason_in
from subterra_jobs.llm.client import RefusedError, Request, refused_error
from subterra_jobs.llm.openai_client import OpenAIClient, read_completion

_LIMITS = BatchLimits(calls=50_000, bytes=150_000_000)
"""developers.openai.com, batches: 50,000 requests and a file of 200 MB, of which some is left for JSON around the texts."""
_ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_NAME = "subterra_batch"
_CLOCK_SKEW = timedelta(minutes=5)
_FILE_SECONDS = 2_592_000
"""Files are deleted after 30 days, the longest that can be asked for, so that paid results outlast an outage of ours."""


class OpenAIBatches:
    """Batches of one model at OpenAI's own API."""

    limits = _LIMITS

    def __init__(self, account: Account) -> None:
        self._client = OpenAIClient(account.model, account.key, account.base_url, account.thinking.effort)
        self._sdk = self._client.sdk

    async def create(self, name: str, requests: Mapping[str, Request]) -> str:
        """See `BatchApi`. An upload without a batch costs nothing and is deleted by itself."""
        lines = (
            {"custom_id": key, "method": "POST", "url": _ENDPOINT, "body": self._client.body(request)}
            for key, request in requests.items()
        )
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        async with _refusals():
            file = await self._sdk.files.create(
                file=(f"{name}.jsonl", content),
                purpose="batch",
                expires_after={"anchor": "created_at", "seconds": _FILE_SECONDS},
                timeout=CREATE_TIMEOUT_SECONDS,
            )
            batch = await self._sdk.batches.create(
                completion_window="24h",
                endpoint=_ENDPOINT,
                input_file_id=file.id,
                metadata={_NAME: name},
                output_expires_after={"anchor": "created_at", "seconds": _FILE_SECONDS},
            )
        return batch.id

    async def find(self, name: str, count: int, since: datetime) -> Sighting | None:
        """See `BatchApi`: by the name in the metadata."""
        async with _refusals():
            async for batch in self._sdk.batches.list(limit=100):
                if (batch.metadata or {}).get(_NAME) == name:
                    return Sighting(batch.id, certain=True)
                if datetime.fromtimestamp(batch.created_at, UTC) < since - _CLOCK_SKEW:
                    return None
        return None

    async def state(self, batch: str) -> BatchState:
        """See `BatchApi`."""
        async with _refusals():
            found = await self._sdk.batches.retrieve(batch)
        counts = found.request_counts
        return BatchState(found.status in _ENDED, counts.completed if counts else 0, counts.total if counts else 0)

    async def results(self, batch: str) -> Mapping[str, BatchItem]:
        """See `BatchApi`. Answers and errors are in two files."""
        items: dict[str, BatchItem] = {}
        async with _refusals():
            found = await self._sdk.batches.retrieve(batch)
        for file in (found.error_file_id, found.output_file_id):
            if file is not None:
                async with _refusals():
                    content = (await self._sdk.files.content(file)).text
                    items |= dict(read_results(content))
        answered = sum(1 for item in items.values() if not isinstance(item, RefusedError) or item.status == 200)
        if found.request_counts and answered < found.request_counts.completed:
            raise incomplete(answered, found.request_counts.completed)
        return items

    async def cancel(self, batch: str) -> None:
        """See `BatchApi`."""
        async with _refusals():
            await self._sdk.batches.cancel(batch)

    async def close(self) -> None:
        """See `BatchApi`."""
        await self._client.close()


def read_results(content: str) -> Iterator[tuple[str, BatchItem]]:
    """What became of each call in a file of results, by custom id. Raises ValueError or KeyError."""
    for line in filter(None, content.split("\n")):  # `splitlines` would also split at what JSON has inside of strings
        row = json.loads(line)
        yield row["custom_id"], _item(row.get("response"), row.get("error"))


def _item(response: Any, error: Any) -> BatchItem:
    if response is None or response.get("status_code") != 200:
        body = error or (response or {}).get("body") or {}
        return unusable("errored", reason_in(body, "no reason was given"), code_in(body), body)
    try:
        return read_completion(ChatCompletion.construct(**response["body"]), {})
    except RefusedError as refused:
        return refused


@asynccontextmanager
async def _refusals() -> AsyncIterator[None]:
    """Turns what the SDK raises, and a file that is cut in the middle of a line, into RefusedError."""
    try:
        yield
    except openai.APIError as error:
        raise refused_error(error, {}) from error
    except (ValueError, KeyError) as error:
        raise RefusedError(f"an answer of unexpected form: {error}", kind=type(error).__name__) from error
