"""The ledger: every paid call, kept in the store for good, so that it survives a kill and the deletion of a run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from subterra_api.job_contract.messages import RunIdentity
from subterra_jobs.store.append_log import AppendLog
from subterra_jobs.store.artifact_store import ArtifactStore

ROOT = "ledger"
"""Folder of all payers' ledgers in the store."""
_SENT = ("input", "cacheWrite", "cacheWrite1h", "cacheRead")

LedgerEntry = Mapping[str, Any]
"""One paid call: `usd` is a decimal string, `tokens` a number, and the rest is for people."""


@dataclass(frozen=True)
class Payment:
    """One paid call as read from the ledger."""

    run: str
    """UID."""
    stage: str
    at: datetime
    usd: Decimal
    tokens: int
    batch: str | None = None
    """Name of the batch of calls that the entry belongs to."""
    reserved: Decimal | None = None
    """Worst case of a batch that begins with this entry."""
    ends_batch: bool = False
    """True for the entry after which nothing is reserved for the batch any more."""
    sent: int = 0
    """Tokens of the prompt, as far as the provider says."""
    cache_read: int = 0
    """Those of them that were read from the provider's cache."""


class Ledger:
    """`ledger/<payer>/<run uid>/`. Each writer has its own files, which only grow."""

    def __init__(self, store: ArtifactStore, run: RunIdentity) -> None:
        self.run = run
        self._store, self._folder = store, f"{ROOT}/{run.payer}"
        self._writer = AppendLog(store, f"{self._folder}/{run.uid}")
        self._offsets: dict[str, int] = {}

    def of(self, run: RunIdentity) -> "Ledger":
        """Another run's ledger in the same store."""
        return Ledger(self._store, run)

    def new_payments(self) -> list[Payment]:
        """Payments of the payer's runs since the last call, except those that this ledger wrote."""
        return self._new_payments(self._store.sizes(self._folder))

    def new_payments_of_others(self) -> list[Payment]:
        """Payments of all other payers in this store since the last call."""
        sizes = self._store.sizes(ROOT)
        return self._new_payments({path: size for path, size in sizes.items() if not path.startswith(f"{self._folder}/")})

    def _new_payments(self, sizes: Mapping[str, int]) -> list[Payment]:
        lines: list[bytes] = []
        for path, size in sizes.items():
            start = self._offsets.get(path, 0)
            if size > start and PurePosixPath(path).suffix == ".jsonl" and self._writer.name not in path:
                content = (self._store.read(path) or b"")[start:]
                self._offsets[path] = start + len(content)
                lines += content.splitlines()
        return [payment for line in lines if (payment := _payment(line)) is not None]

    def append(self, entries: Sequence[LedgerEntry]) -> None:
        """Writes a batch durably before it returns. Every entry also needs `run`, `stage` and `at`."""
        self._writer.append([json.dumps(entry, sort_keys=True).encode() for entry in entries])


def payment_of(entry: LedgerEntry) -> Payment:
    """An entry as a payment. Raises ValueError, KeyError, TypeError or ArithmeticError for anything else."""
    at, reserved = datetime.fromisoformat(entry["at"]), entry.get("reserved")
    return Payment(
        entry["run"],
        entry["stage"],
        at,
        Decimal(entry["usd"]),
        int(entry.get("tokens", 0)),
        entry.get("batch"),
        None if reserved is None else Decimal(reserved),
        bool(entry.get("endsBatch")),
        sum(int(entry.get(name, 0)) for name in _SENT),
        int(entry.get("cacheRead", 0)),
    )


def _payment(line: bytes) -> Payment | None:
    try:
        return payment_of(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
        return None
