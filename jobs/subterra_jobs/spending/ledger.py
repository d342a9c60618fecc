"""What was paid, call by call: in the store for ever, so that it survives a kill, and the deletion of a run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from subterra_api.job_contract.messages import RunIdentity
from subterra_jobs.store.append_log import SegmentWriter
from subterra_jobs.store.artifacts import ArtifactStore

Entry = Mapping[str, Any]
"""One paid call as its caller tells it: ``usd`` is a decimal string, ``tokens`` a number, the rest is for people."""


@dataclass(frozen=True)
class Payment:
    """One paid call as the ledger has it."""

    run: str
    """UID."""
    stage: str
    at: datetime
    usd: Decimal
    tokens: int


class Ledger:
    """``ledger/<payer>/<run uid>/``. A writer has files of its own, which only grow; an object store cannot append to any."""

    def __init__(self, store: ArtifactStore, run: RunIdentity) -> None:
        self.run = run
        self._store, self._folder = store, f"ledger/{run.payer}"
        self._writer = SegmentWriter(store, f"{self._folder}/{run.uid}")
        self._read: dict[str, int] = {}

    def news(self) -> list[Payment]:
        """What the payer's runs paid, without what this ledger wrote itself or read before."""
        lines: list[bytes] = []
        for path, size in self._store.sizes(self._folder).items():
            start = self._read.get(path, 0)
            if size > start and PurePosixPath(path).suffix == ".jsonl" and self._writer.name not in path:
                content = (self._store.read(path) or b"")[start:]
                self._read[path] = start + len(content)
                lines += content.splitlines()
        return [payment for line in lines if (payment := _payment(line)) is not None]

    def append(self, entries: Sequence[Entry]) -> None:
        """Writes a batch durably before it returns. Every entry needs ``run``, ``stage`` and ``at`` too."""
        self._writer.append([json.dumps(entry, sort_keys=True).encode() for entry in entries])


def _payment(line: bytes) -> Payment | None:
    try:
        entry = json.loads(line)
        at = datetime.fromisoformat(entry["at"])
        return Payment(entry["run"], entry["stage"], at, Decimal(entry["usd"]), int(entry.get("tokens", 0)))
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return None
