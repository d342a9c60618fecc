"""Admission of calls to a provider: within the account's rate limits and the caps on spending."""

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from subterra_api.job_contract.messages import Calls
from subterra_core.pricing import format_usd
from subterra_jobs.llm.rate_limit import CallOutcome, InFlightCall, RateLimiter
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import LedgerEntry
from subterra_jobs.stage.progress import Spending

RATE_SECONDS = 30.0
"""Interval over which the rate of calls is averaged."""


@dataclass(frozen=True)
class UsageStats:
    """Calls and spending of a stage."""

    usd: Decimal
    tokens: int
    calls: int
    """Calls answered since this attempt began."""
    per_minute: float
    limit: float | None
    """Calls per minute that the account's limits allow; `None` when the provider reports none."""
    cap: Decimal | None
    reserved: Decimal
    """Worst case of the calls in flight."""
    cached_share: float | None = None
    """Share of the prompts' tokens that providers read from their caches."""

    def progress_fields(self, *notes: str) -> dict[str, Any]:
        """Arguments of `ProgressReporter.update` for a stage that pays, with `notes` in the message."""
        max_usd = None if self.cap is None else format_usd(self.cap)
        calls = Calls(answered=self.calls, per_minute=self.per_minute, limit=self.limit, max_usd=max_usd)
        message = ", ".join(filter(None, (str(self), *notes)))
        return {"message": message, "spending": Spending(format_usd(self.usd), self.tokens, calls)}

    def __str__(self) -> str:
        """Such as `3,950 calls/min of 4,000, $1.20 of $20, 43% of input cached`."""
        rate = f"{self.per_minute:,.0f} calls/min" + (f" of {self.limit:,.0f}" if self.limit else "")
        paid = f"${self.usd:.2f}" + (f" of ${self.cap.normalize():f}" if self.cap is not None else "")
        return ", ".join((rate, paid, *([f"{self.cached_share:.0%} of input cached"] if self.cached_share else [])))


class Admission(Protocol):
    """`acquire` before a call, `settle` after it."""

    async def acquire(self, worst_case: Callable[[], Decimal], size: int, priority: int) -> int:
        """Number of a reservation, once a call of `size` bytes may go. Higher priority goes first.

        `worst_case` has the most that the call can cost, in dollars, by what is known when its turn comes.
        """
        ...

    async def settle(self, reservation: int, entry: LedgerEntry | None, outcome: CallOutcome) -> None:
        """Reports a call's outcome; `entry` is `None` when it cost nothing. Returns once the entry is in the ledger."""
        ...


class AdmissionQueue:
    """Admission to one account."""

    def __init__(
        self,
        budget: BudgetGuard,
        limiter: RateLimiter,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.budget, self._limiter = budget, limiter
        self._clock, self._sleep = clock, sleep
        self._waiting: list[tuple[int, int, int, asyncio.Future[InFlightCall]]] = []
        self._order = itertools.count()
        self._wake_task: asyncio.Task[None] | None = None
        self._calls: dict[int, InFlightCall] = {}
        self._answered, self._recent = 0, deque[float]()

    async def acquire(self, worst_case: Callable[[], Decimal], size: int, priority: int) -> int:
        """See `Admission`. Raises BudgetExceededError."""
        admitted: asyncio.Future[InFlightCall] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._order), size, admitted))
        self._admit_waiting()
        call = await admitted
        try:
            reservation = await self.budget.reserve(worst_case())
        except BaseException:
            self._end(call, CallOutcome())
            raise
        self._calls[reservation] = call
        return reservation

    async def settle(self, reservation: int, entry: LedgerEntry | None, outcome: CallOutcome) -> None:
        """See `Admission`."""
        call = self._calls.pop(reservation)
        if not outcome.refused:
            self._answered += 1
            self._recent.append(self._clock())
        self._end(call, outcome)
        await self.budget.commit(reservation, entry)

    async def stats(self) -> UsageStats:
        """Calls and spending so far."""
        now = self._clock()
        while self._recent and self._recent[0] < now - RATE_SECONDS:
            self._recent.popleft()
        since = max(now - self._recent[0], 1.0) if self._recent else 1.0
        usd, tokens = await self.budget.totals()
        rate, limit = len(self._recent) * 60 / since, self._limiter.per_minute()
        budget = self.budget
        return UsageStats(usd, tokens, self._answered, rate, limit, budget.cap, budget.reserved, budget.cached_share)

    def _end(self, call: InFlightCall, outcome: CallOutcome) -> None:
        self._limiter.end(self._clock(), call, outcome)
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        """Admits calls as the limits allow; if only time is missing, schedules another try."""
        while self._waiting:
            _, _, size, admitted = self._waiting[0]
            if admitted.done():  # its caller was cancelled
                heapq.heappop(self._waiting)
                continue
            delay = self._limiter.delay(self._clock(), size)
            if delay is None or delay > 0:
                self._schedule_wake(delay)
                return
            heapq.heappop(self._waiting)
            admitted.set_result(self._limiter.begin(size))

    def _schedule_wake(self, delay: float | None) -> None:
        if delay is not None and self._wake_task is None:
            self._wake_task = asyncio.create_task(self._wake(delay))

    async def _wake(self, delay: float) -> None:
        await self._sleep(delay)
        self._wake_task = None
        self._admit_waiting()
