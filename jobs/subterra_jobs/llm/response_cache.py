"""Cache of paid responses: kept in the store for good, found by key, shared by all runs of a namespace.

Each writer has its own files (`AppendLog`), so several jobs may write at once without locks.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath

from subterra_api.digest import canonical, sha256, short
from subterra_jobs.store.append_log import AppendLog, GroupCommit
from subterra_jobs.store.artifact_store import ArtifactStore

log = logging.getLogger("subterra")

QUARANTINE = "quarantine"
_KEY_LENGTH, _CHECK_LENGTH = 32, 16


@dataclass(frozen=True)
class CallUsage:
    """Time, billed tokens and dollars of the call that brought a response."""

    seconds: float
    input: int
    output: int
    usd: str
    cache_read: int = 0
    """Those of the billed input tokens that the provider read from its cache."""


@dataclass(frozen=True)
class CachedResponse:
    """A model's response."""

    text: str
    cut: str | None = None
    """The provider's reason when the text is incomplete."""
    usage: CallUsage | None = field(default=None, compare=False)
    """`None` for responses that were stored before usage was."""


def cache_key(*parts: object) -> str:
    """A key for everything that a response depends on."""
    return short(sha256(parts), _KEY_LENGTH)


class ResponseCache:
    """The responses in one folder, read at the first lookup."""

    def __init__(self, store: ArtifactStore, folder: str) -> None:
        self._store, self._folder = store, folder
        self._writer = AppendLog(store, folder)
        self._commits = GroupCommit[bytes](self._writer.append)
        self._responses: dict[str, CachedResponse] | None = None

    def get(self, key: str) -> CachedResponse | None:
        """The response, if it was paid before the responses were read; `None` otherwise."""
        return self._read().get(key)

    def read_again(self) -> None:
        """Lets the next lookup find what other processes have paid meanwhile."""
        self._responses = None

    def count(self) -> int:
        """Number of responses when they were read."""
        return len(self._read())

    async def put(self, key: str, response: CachedResponse) -> None:
        """Returns once the response is on disk. Raises OSError."""
        await self._commits.add([_line(key, response)])

    async def add_all(self, responses: Mapping[str, CachedResponse]) -> None:
        """Like `put`, for many; from then on `get` finds them too. Raises OSError."""
        if responses:
            await self._commits.add([_line(key, response) for key, response in responses.items()])
            self._read().update(responses)

    def repair(self) -> int:
        """Moves files with damaged records to quarantine, after copying their intact records; returns the number of damaged ones.

        A process that is still writing such a file has its content in memory and writes it in full with its next response.
        """
        damaged = 0
        for path, content in self._store.read_all(self._folder).items():
            records = list(_records(content))
            if None not in records:
                continue
            count = records.count(None)
            damaged += count
            self._writer.append([_line(*record) for record in records if record is not None])
            self._store.put(f"{QUARANTINE}/{self._folder}/{PurePosixPath(path).name}", content)
            self._store.remove(path)
            log.warning("%s has %d damaged records, which must be paid again; it was moved to %s", path, count, QUARANTINE)
        return damaged

    def _read(self) -> dict[str, CachedResponse]:
        if self._responses is None:
            contents = self._store.read_all(self._folder).values()
            self._responses = dict(record for content in contents for record in _records(content) if record is not None)
        return self._responses


def _line(key: str, response: CachedResponse) -> bytes:
    usage = _usage_fields(response.usage) if response.usage else {}
    return canonical({"key": key, "text": response.text, "cut": response.cut, "check": _check(key, response), **usage})


def _usage_fields(usage: CallUsage) -> dict[str, object]:
    """The record's fields about usage. Tokens read from a cache have a field of their own, which older versions pass over."""
    took = asdict(usage)
    cache_read = took.pop("cache_read")
    return {"took": took} | ({"cacheRead": cache_read} if cache_read else {})


def _check(key: str, response: CachedResponse) -> str:
    return short(sha256([key, response.text, response.cut]), _CHECK_LENGTH)


def _records(content: bytes) -> Iterator[tuple[str, CachedResponse] | None]:
    """Responses by key; `None` for a damaged record."""
    for line in content.splitlines():
        try:
            row = json.loads(line)
            usage = CallUsage(**row["took"], cache_read=row.get("cacheRead", 0)) if "took" in row else None
            response = CachedResponse(row["text"], row["cut"], usage)
            yield (row["key"], response) if row["check"] == _check(row["key"], response) else None
        except (ValueError, KeyError, TypeError):
            yield None
