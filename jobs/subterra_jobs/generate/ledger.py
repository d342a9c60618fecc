"""What a run has paid, call by call: append-only in the store, so that it survives a kill, and the cap that rests on it."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from subterra_jobs.common.store import ArtifactStore

Entry = Mapping[str, Any]
"""One paid call; ``usd`` is a decimal string, ``tokens`` a number, the rest is for people."""


class Ledger:
    """``ledger/<run uid>.jsonl`` on a volume; in an object store, which cannot append, one object per batch beside it."""

    def __init__(self, store: ArtifactStore, run_uid: str) -> None:
        self._fs, self._local = store.fs, store.is_local
        self._file = f"{store.root}/ledger/{run_uid}.jsonl"
        self._folder = f"{store.root}/ledger/{run_uid}"
        self._batches = 0

    def read(self) -> list[dict[str, Any]]:
        """All calls paid so far. A last line that a kill cut short was never acknowledged and is left out."""
        if self._local:
            path = Path(self._file)
            text = path.read_text() if path.exists() else ""
        else:
            found = sorted(self._fs.glob(f"{self._folder}/*.jsonl"))
            contents = self._fs.cat(found) if found else {}
            text = "".join(contents[name].decode() for name in found)
        return [entry for line in text.splitlines() if (entry := _entry(line)) is not None]

    def append(self, entries: list[Entry]) -> None:
        """Writes a batch durably before it returns."""
        text = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in entries)
        if not self._local:
            self._batches += 1
            self._fs.pipe_file(f"{self._folder}/{time.time_ns():020d}-{os.getpid()}-{self._batches:06d}.jsonl", text.encode())
            return
        path = Path(self._file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            if file.tell() and not _ends_line(file):
                file.write(b"\n")
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


def _ends_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _entry(line: str) -> dict[str, Any] | None:
    try:
        loaded = json.loads(line)
        Decimal(loaded["usd"])
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return None
    return dict(loaded)


class Purse(Protocol):
    """Who may spend. Reserve the worst case before a call, settle with what it cost after."""

    async def reserve(self, owner: str, usd: Decimal) -> int | None:
        """A receipt; none when the call could bring spend above the cap."""
        ...

    async def settle(self, receipt: int, entry: Entry | None) -> None:
        """Replaces a reservation by what was paid; no entry when the call cost nothing. Returns once the ledger has it."""
        ...


class LedgerPurse:
    """The one purse of a run. Its spend never exceeds ``cap``: every call's worst case is held back until it is settled."""

    def __init__(self, ledger: Ledger, cap: Decimal | None) -> None:
        self._ledger, self._cap = ledger, cap
        entries = ledger.read()
        self.spent = sum((Decimal(entry["usd"]) for entry in entries), Decimal(0))
        generated = [entry for entry in entries if entry.get("stage") == "generate"]
        self._usd = sum((Decimal(entry["usd"]) for entry in generated), Decimal(0))
        self._tokens = sum(int(entry.get("tokens", 0)) for entry in generated)
        self._held: dict[int, tuple[str, Decimal]] = {}
        self._next = 0
        self._unwritten: list[Entry] = []
        self._changed = asyncio.Condition()
        self._writing = asyncio.Lock()

    async def reserve(self, owner: str, usd: Decimal) -> int | None:
        """Waits while calls in flight hold the money that this one might need; none when even their end cannot help."""
        async with self._changed:
            while self._cap is not None and self.spent + sum(held for _, held in self._held.values()) + usd > self._cap:
                if not self._held or self.spent + usd > self._cap:
                    return None
                await self._changed.wait()
            self._next += 1
            self._held[self._next] = (owner, usd)
            return self._next

    async def settle(self, receipt: int, entry: Entry | None) -> None:
        """Books ``entry`` in place of the reservation."""
        await self._book([receipt], [] if entry is None else [entry])

    async def forfeit(self, owner: str) -> None:
        """Books the reservations of a worker that died at their worst case: nobody knows whether those calls were paid."""
        lost = {receipt: usd for receipt, (holder, usd) in self._held.items() if holder == owner}
        await self._book(list(lost), [{"stage": "generate", "usd": str(usd), "tokens": 0, "lost": True} for usd in lost.values()])

    async def totals(self) -> tuple[Decimal, int]:
        """Dollars and tokens that the generation of this run took, earlier attempts included."""
        return self._usd, self._tokens

    async def _book(self, receipts: list[int], entries: list[Entry]) -> None:
        if entries:
            self._unwritten += entries
            await self._flush()
        async with self._changed:
            for receipt in receipts:
                self._held.pop(receipt, None)
            for entry in entries:
                self.spent += Decimal(entry["usd"])
                self._usd += Decimal(entry["usd"])
                self._tokens += int(entry["tokens"])
            self._changed.notify_all()

    async def _flush(self) -> None:
        """One write serves all calls that settled while the one before was under way."""
        async with self._writing:
            batch, self._unwritten = self._unwritten, []
            if not batch:
                return
            try:
                await asyncio.to_thread(self._ledger.append, batch)
            except BaseException:
                self._unwritten = batch + self._unwritten
                raise
