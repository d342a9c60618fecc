"""Who may call the provider now: within the account's limits and within the caps on spending."""

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
from subterra_core.pricing import money
from subterra_jobs.llm.rate_limit import Call, Heard, Rates
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Entry

RATE_SECONDS = 30.0
"""Over which the rate of calls is told."""


@dataclass(frozen=True)
class Figures:
    """How far the stage is with the provider."""

    usd: Decimal
    tokens: int
    calls: int
    """Answered since this attempt began."""
    per_minute: float
    limit: float | None
    """Calls a minute that the account's limits let through; none when the provider tells none."""
    cap: Decimal | None
    held: Decimal
    """What the calls in flight may cost at most."""

    def told(self, *notes: str) -> dict[str, Any]:
        """What progress tells of a stage that pays, with ``notes`` in its message."""
        calls = Calls(
            answered=self.calls, per_minute=self.per_minute, limit=self.limit, max_usd=None if self.cap is None else money(self.cap)
        )
        message = ", ".join(filter(None, (str(self), *notes)))
        return {"usd": money(self.usd), "tokens": self.tokens, "message": message, "calls": calls}

    def __str__(self) -> str:
        """Such as ``3,950 calls/min of 4,000, $1.20 of $20``."""
        rate = f"{self.per_minute:,.0f} calls/min" + (f" of {self.limit:,.0f}" if self.limit else "")
        return f"{rate}, ${self.usd:.2f}" + (f" of ${self.cap.normalize():f}" if self.cap is not None else "")


class Broker(Protocol):
    """Admit before a call, settle after."""

    async def admit(self, usd: Decimal, size: int, rank: int) -> int:
        """A receipt, once a call of so many bytes may go that costs at most so much. The higher rank goes first."""
        ...

    async def settle(self, receipt: int, entry: Entry | None, heard: Heard) -> None:
        """Tells what came of it; no entry when the call cost nothing. Returns once the ledger has it."""
        ...


class StageBroker:
    """The one broker of a stage."""

    def __init__(
        self, purse: BudgetGuard, rates: Rates, *, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self.purse, self._rates = purse, rates
        self._clock, self._sleep = clock, sleep
        self._waiting: list[tuple[int, int, int, asyncio.Future[Call]]] = []
        self._order = itertools.count()
        self._alarm: asyncio.Task[None] | None = None
        self._calls: dict[int, Call] = {}
        self._answered, self._recent = 0, deque[float]()

    async def admit(self, usd: Decimal, size: int, rank: int) -> int:
        """See `Broker`. Raises BudgetExceededError."""
        turn: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-rank, next(self._order), size, turn))
        self._go_on()
        call = await turn
        try:
            receipt = await self.purse.reserve(usd)
        except BaseException:
            self._end(call, Heard())
            raise
        self._calls[receipt] = call
        return receipt

    async def settle(self, receipt: int, entry: Entry | None, heard: Heard) -> None:
        """See `Broker`."""
        call = self._calls.pop(receipt)
        if not heard.refused:
            self._answered += 1
            self._recent.append(self._clock())
        self._end(call, heard)
        await self.purse.settle(receipt, entry)

    async def figures(self) -> Figures:
        """How far the stage is with the provider."""
        now = self._clock()
        while self._recent and self._recent[0] < now - RATE_SECONDS:
            self._recent.popleft()
        since = max(now - self._recent[0], 1.0) if self._recent else 1.0
        usd, tokens = await self.purse.totals()
        rate, limit = len(self._recent) * 60 / since, self._rates.per_minute()
        return Figures(usd, tokens, self._answered, rate, limit, self.purse.cap, self.purse.held)

    def _end(self, call: Call, heard: Heard) -> None:
        self._rates.end(self._clock(), call, heard)
        self._go_on()

    def _go_on(self) -> None:
        """Lets go whoever may; when only time is missing, looks again then."""
        while self._waiting:
            _, _, size, turn = self._waiting[0]
            if turn.done():  # given up
                heapq.heappop(self._waiting)
                continue
            delay = self._rates.delay(self._clock(), size)
            if delay is None or delay > 0:
                self._look_again(delay)
                return
            heapq.heappop(self._waiting)
            turn.set_result(self._rates.begin(size))

    def _look_again(self, delay: float | None) -> None:
        if delay is not None and self._alarm is None:
            self._alarm = asyncio.create_task(self._wake(delay))

    async def _wake(self, delay: float) -> None:
        await self._sleep(delay)
        self._alarm = None
        self._go_on()
