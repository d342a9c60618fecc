"""A work queue of keys: each key once, one worker per key at a time, failures with exponential backoff."""

import asyncio
import heapq
import random
from collections import defaultdict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF = 0.2
LAST_BACKOFF = 60.0


class KeyQueue(Generic[K]):
    """Keys that are due now or later. A key that is added while a worker has it is due again once the worker is done."""

    def __init__(self, jitter: random.Random | None = None) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0
        self._processing: set[K] = set()
        self._dirty: set[K] = set()
        self._failures: dict[K, int] = defaultdict(int)
        self._changed = asyncio.Event()
        self._jitter = jitter or random.Random()

    def __len__(self) -> int:
        """Number of keys that are due now or later."""
        return len(self._due)

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
            now, wait = asyncio.get_running_loop().time(), None
            held = []
            while self._heap:
                due, _, key = self._heap[0]
                if self._due.get(key) != due:  # replaced by an earlier time, or handed out
                    heapq.heappop(self._heap)
                elif due > now:
                    wait = due - now
                    break
                elif key in self._processing:
                    held.append(heapq.heappop(self._heap))
                else:
                    heapq.heappop(self._heap)
                    del self._due[key]
                    self._processing.add(key)
                    self._push(held)
                    return key
            self._push(held)
            await self._sleep(wait)

    def done(self, key: K, again_after: float | None = None) -> None:
        """Reports success for ``key``; makes it due again in ``again_after`` seconds, if set."""
        self._failures.pop(key, None)
        self._release(key)
        if again_after is not None:
            self.add(key, again_after)

    def retry_later(self, key: K, longest: float = LAST_BACKOFF) -> float:
        """Reports a failure for ``key``; makes it due again after a backoff of at most ``longest`` seconds, and returns it."""
        self._failures[key] += 1
        bound = min(longest, FIRST_BACKOFF * 2.0 ** min(self._failures[key] - 1, 20))
        delay = bound * self._jitter.uniform(0.5, 1.0)
        self._dirty.discard(key)
        self._release(key)
        self.add(key, delay)
        return delay

    def _push(self, held: list[tuple[float, int, K]]) -> None:
        for item in held:
            heapq.heappush(self._heap, item)

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
