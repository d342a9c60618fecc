"""Batches in progress, as the store remembers them, so that the next attempt finds what a killed one began."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from subterra_api.job_contract.messages import RunIdentity
from subterra_jobs.store.artifact_store import ArtifactStore

log = logging.getLogger("subterra")


@dataclass(frozen=True)
class BatchedCall:
    """One call of a batch: where its response is kept, and what it can cost."""

    use: str
    key: str
    labels: dict[str, str]
    worst: str
    """Dollars."""


@dataclass(frozen=True)
class BatchRecord:
    """One batch. Written before the provider is asked, and again with the provider's id."""

    name: str
    account: str
    """Digest of the provider's settings: which client it belongs to."""
    run: RunIdentity
    """Who reserved for it, and pays."""
    began: datetime
    calls: tuple[BatchedCall, ...] = field(repr=False)
    id: str | None = None
    """The provider's; `None` while the outcome of creating it is unknown."""


class BatchRecords:
    """The open batches in one folder. One process at a time, the holder of the stage's lease, writes them."""

    def __init__(self, store: ArtifactStore, folder: str) -> None:
        self._store, self._folder = store, folder

    def read(self) -> Sequence[BatchRecord]:
        """All open batches. Raises OSError."""
        return [_parsed(content) for _, content in sorted(self._store.read_all(self._folder).items())]

    def write(self, record: BatchRecord) -> None:
        """Remembers a batch durably. Raises OSError."""
        self._store.put(self._path(record), _serialized(record))

    def remove(self, record: BatchRecord) -> None:
        """Forgets a batch that is settled."""
        self._store.remove(self._path(record))

    def _path(self, record: BatchRecord) -> str:
        return f"{self._folder}/{record.name}.json"


def _serialized(record: BatchRecord) -> bytes:
    row = {
        "name": record.name,
        "account": record.account,
        "run": record.run.model_dump(mode="json", by_alias=True),
        "began": record.began.isoformat(),
        "id": record.id,
        "calls": [asdict(call) for call in record.calls],
    }
    return json.dumps(row, sort_keys=True).encode()


def _parsed(content: bytes) -> BatchRecord:
    row = json.loads(content)
    calls = tuple(BatchedCall(**call) for call in row["calls"])
    began = datetime.fromisoformat(row["began"])
    return BatchRecord(row["name"], row["account"], RunIdentity.model_validate(row["run"]), began, calls, row["id"])
