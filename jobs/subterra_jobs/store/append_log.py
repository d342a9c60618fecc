"""Append-only records, on a volume or in an object store, which cannot append to a file."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from subterra_jobs.store.artifact_store import ArtifactStore

Record = TypeVar("Record")
SEGMENT_BYTES = 64 * 1024
"""A file is rewritten with every batch until it has this size; then the next one begins."""


class AppendLog:
    """One writer's files in a folder, `<writer>-<number>.jsonl`. No other process writes to them; each write is atomic."""

    def __init__(self, store: ArtifactStore, folder: str) -> None:
        self.name = uuid.uuid4().hex
        self._store, self._folder = store, folder
        self._number, self._content = 0, b""

    def append(self, lines: Sequence[bytes]) -> None:
        """Writes durably before it returns; writes nothing when it fails."""
        content = self._content + b"".join(line + b"\n" for line in lines)
        path = f"{self._folder}/{self.name}-{self._number:06d}.jsonl"
        try:
            self._store.put(path, content)
        except OSError as error:
            if not self._store.release_headroom(error):
                raise
            self._store.put(path, content)
        full = len(content) > SEGMENT_BYTES
        self._number, self._content = (self._number + 1, b"") if full else (self._number, content)


class GroupCommit(Generic[Record]):
    """Batches records that arrive during a write into the next one."""

    def __init__(self, write: Callable[[Sequence[Record]], None]) -> None:
        self._write = write
        self._waiting: list[Record] = []
        self._writing = asyncio.Lock()

    async def add(self, records: Sequence[Record]) -> None:
        """Returns once `records` are written. A batch that could not be written is retried with the next one."""
        self._waiting += records
        async with self._writing:
            batch, self._waiting = self._waiting, []
            if not batch:
                return
            try:
                await asyncio.to_thread(self._write, batch)
            except BaseException:
                self._waiting = batch + self._waiting
                raise
