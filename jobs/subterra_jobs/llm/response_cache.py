"""Paid answers: in the store for good, found by their key, shared by all runs of a namespace.

Writers have files of their own (`SegmentWriter`), so several jobs may write at once, and nothing needs to be locked or removed.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath

from subterra_api.digest import canonical, sha256, short
from subterra_jobs.store.append_log import GroupCommit, SegmentWriter
from subterra_jobs.store.artifacts import ArtifactStore

log = logging.getLogger("subterra")

QUARANTINE = "quarantine"
_KEY_LENGTH, _CHECK_LENGTH = 32, 16


@dataclass(frozen=True)
class Took:
    """What an answer took when it was given: time, tokens as billed, and dollars."""

    seconds: float
    input: int
    output: int
    usd: str


@dataclass(frozen=True)
class Kept:
    """What a model answered. ``cut`` is the provider's reason when it did not come to an end."""

    text: str
    cut: str | None = None
    took: Took | None = field(default=None, compare=False)
    """None for answers of a time when this was not kept."""


def key_of(*parts: object) -> str:
    """A key for everything that an answer depends on."""
    return short(sha256(parts), _KEY_LENGTH)


class AnswerStore:
    """The answers in one folder. They are read once, when the first is looked for."""

    def __init__(self, store: ArtifactStore, folder: str) -> None:
        self._store, self._folder = store, folder
        self._writer = SegmentWriter(store, folder)
        self._commit = GroupCommit[bytes](self._writer.append)
        self._known: dict[str, Kept] | None = None

    def get(self, key: str) -> Kept | None:
        """The answer, if it was paid before."""
        return self._read().get(key)

    def count(self) -> int:
        """How many there were when they were read."""
        return len(self._read())

    async def keep(self, key: str, kept: Kept) -> None:
        """Returns once it is on disk. Raises OSError."""
        await self._commit.add([_line(key, kept)])

    def _read(self) -> dict[str, Kept]:
        if self._known is None:
            contents = self._store.read_all(self._folder).values()
            self._known = dict(record for content in contents for record in _records(content) if record is not None)
        return self._known

    def heal(self) -> int:
        """Sets files with damaged records aside, after writing what is good in them anew; gives the number of damaged records.

        A writer that is still at such a file has all of it in memory, and writes it whole with its next answer.
        """
        damaged = 0
        for path, content in self._store.read_all(self._folder).items():
            found = list(_records(content))
            if None not in found:
                continue
            bad = found.count(None)
            damaged += bad
            self._writer.append([_line(*record) for record in found if record is not None])
            self._store.put(f"{QUARANTINE}/{self._folder}/{PurePosixPath(path).name}", content)
            self._store.remove(path)
            log.warning("%s has %d damaged records, which are paid again; it is kept under %s", path, bad, QUARANTINE)
        return damaged


def _line(key: str, kept: Kept) -> bytes:
    took = {"took": asdict(kept.took)} if kept.took else {}
    return canonical({"key": key, "text": kept.text, "cut": kept.cut, "check": _check(key, kept), **took})


def _check(key: str, kept: Kept) -> str:
    return short(sha256([key, kept.text, kept.cut]), _CHECK_LENGTH)


def _records(content: bytes) -> Iterator[tuple[str, Kept] | None]:
    """Answers by key; none for a record that is not what was written."""
    for line in content.splitlines():
        try:
            row = json.loads(line)
            kept = Kept(row["text"], row["cut"], Took(**row["took"]) if "took" in row else None)
            yield (row["key"], kept) if row["check"] == _check(row["key"], kept) else None
        except (ValueError, KeyError, TypeError):
            yield None
