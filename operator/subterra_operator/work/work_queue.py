"""A work queue of keys: each key once, one worker per key at a time, tenants in turn, failures with exponential backoff."""

import asyncio
import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF = 0.2
LAST_BACKOFF = 60.0
MAX_TENANTS = 10_000
"""Tenants whose last turn is remembered; beyond it, all count as never served."""


def _one_tenant(_: Hashable) -> Hashable:
    return None


class KeyQueue(Generic[K]):
    """Keys that are due now or later. A key that is added while a worker has it is due again once the worker is done.

    Due keys are handed out in turn by their ``tenant``, the one served longest ago first, so that a tenant with many keys delays
    another's key by no more than what the workers already have. A tenant's own keys keep the order in which they became due.
    """

    def __init__(self, jitter: random.Random | None = None, tenant: Callable[[K], Hashable] = _one_tenant) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0
        self._tenant = tenant
        self._ready: dict[Hashable, dict[K, None]] = {}
        """Keys whose time has come and that no worker has, by tenant."""
        self._tenants: list[tuple[int, int, Hashable]] = []
        """A heap of the tenants in ``_ready``, by the turn in which each was served last."""
        self._served: dict[Hashable, int] = {}
        self._turn = 0
        self._processing: set[K] = set()
        self._dirty: set[K] = set()
        self._failures: dict[K, int] = defaultdict(int)
        self._changed = asyncio.Event()
        self._jitter = jitter or random.Random()

    def __len__(self) -> int:
        """Number of keys that are due now or later."""
        return len(self._due)

    @property
    def overdue_seconds(self) -> float:
        """How long the key that waits longest has been due; 0 if none is."""
        now = asyncio.get_running_loop().time()
        due = min((self._due[next(iter(keys))] for keys in self._ready.values()), default=now)
        return max(0.0, now - due)

    def add(self, key: K, after: float = 0.0) -> None:
        """Makes ``key`` due in ``after`` seconds, unless it is due earlier."""
        if key in self._processing and after <= 0:
            self._dirty.add(key)
            return
        due = asyncio.get_running_loop().time() + max(0.0, after)
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._count += 1
            heapq.heappush(self._heap, (due, self._count, key))
            self._changed.set()

    async def get(self) -> K:
        """The next key that is due and that no worker has; waits for one."""
        while True:
            wait = self._collect_due()
            if self._ready:
                return self._next()
            await self._sleep(wait)

    def done(self, key: K, again_after: float | None = None) -> None:
        """Reports success for ``key``; makes it due again in ``again_after`` seconds, if set."""
        self._failures.pop(key, None)
        self._release(key)
        if again_after is not None:
            self.add(key, again_after)

    def forget_failures(self, key: K) -> None:
        """Has the next failure of ``key`` wait as briefly as a first one, also while a worker has it: its cause may be mended."""
        self._failures.pop(key, None)

    def retry_later(self, key: K, longest: float = LAST_BACKOFF) -> float:
        """Reports a failure for ``key``; makes it due again after a backoff of at most ``longest`` seconds, and returns it."""
        self._failures[key] += 1
        bound = min(longest, FIRST_BACKOFF * 2.0 ** min(self._failures[key] - 1, 20))
        delay = bound * self._jitter.uniform(0.5, 1.0)
        self._dirty.discard(key)
        self._release(key)
        self.add(key, delay)
        return delay

    def _collect_due(self) -> float | None:
        """Hands keys whose time has come to their tenants; returns the seconds until the next one, if there is one."""
        now = asyncio.get_running_loop().time()
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due and due > now:
                return due - now
            heapq.heappop(self._heap)
            if self._due.get(key) != due:  # replaced by an earlier time, or handed out
                continue
            if key in self._processing:
                del self._due[key]
                self._dirty.add(key)
            else:
                self._make_ready(key)
        return None

    def _make_ready(self, key: K) -> None:
        tenant = self._tenant(key)
        if tenant not in self._ready:
            self._ready[tenant] = {}
            self._line_up(tenant, self._served.get(tenant, 0))
        self._ready[tenant][key] = None

    def _line_up(self, tenant: Hashable, served: int) -> None:
        self._count += 1
        heapq.heappush(self._tenants, (served, self._count, tenant))

    def _next(self) -> K:
        """The first key of the tenant that was served longest ago."""
        _, _, tenant = heapq.heappop(self._tenants)
        keys = self._ready[tenant]
        key = next(iter(keys))
        del keys[key], self._due[key]
        self._processing.add(key)
        if len(self._served) >= MAX_TENANTS:
            self._served.clear()
        self._turn += 1
        self._served[tenant] = self._turn
        if keys:
            self._line_up(tenant, self._turn)
        else:
            del self._ready[tenant]
        return key

    async def _sleep(self, seconds: float | None) -> None:
        """Waits until the queue changes, at most ``seconds``."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def _release(self, key: K) -> None:
        self._processing.discard(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self.add(key)
        self._changed.set()
