"""Who may spend: the worst case of a call is reserved before it, and settled with what it cost after."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import Budget
from subterra_jobs.errors import BudgetExceededError, InfrastructureError
from subterra_jobs.spending.caps import Refusal, Window
from subterra_jobs.spending.ledger import Entry, Ledger, Payment
from subterra_jobs.store.append_log import GroupCommit

LOOK_SECONDS = 1.0
"""How old the knowledge of others' spending may be. No call is faster: what they paid meanwhile was in flight at the last look."""


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


class BudgetGuard:
    """The one purse of a stage. Every call's worst case is held back until it is settled, so no cap is ever exceeded by its own
    calls; what other runs of the same payer pay is read from the store.
    """

    def __init__(
        self, ledger: Ledger, stage: Stage, budget: Budget, *, check: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = utc_now, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """``check`` raises a StageError when there must be no more spending, whatever the caps say."""
        self._ledger, self._stage, self._check = ledger, stage, check
        self._clock, self._monotonic = clock, monotonic
        self.cap, self._cap_30_days = _decimal(budget.max_usd), _decimal(budget.max_usd_per_30_days)
        self.spent = Decimal(0)
        self._since: datetime | None = None
        self._window = Window()
        self._usd, self._tokens = Decimal(0), 0
        self._held: dict[int, Decimal] = {}
        self._next = 0
        self._commit = GroupCommit[Entry](ledger.append)
        self._changed = asyncio.Condition()
        self._looked = monotonic()
        self._count(ledger.news())

    @property
    def held(self) -> Decimal:
        """What the calls in flight may cost at most, in dollars."""
        return sum(self._held.values(), Decimal(0))

    async def reserve(self, usd: Decimal) -> int:
        """A receipt. Waits while calls in flight hold the money that this one might need.

        Raises BudgetExceededError when even their end cannot help.
        """
        async with self._changed:
            await self._look()
            while not self._fits(self.held + usd):
                if (refusal := self._refusal(usd)) is not None:
                    raise BudgetExceededError(str(refusal))
                await self._changed.wait()
                await self._look()
            self._next += 1
            self._held[self._next] = usd
            return self._next

    async def refusal(self, usd: Decimal) -> Refusal | None:
        """Why so much could not be paid by what is known now; none when the caps leave it."""
        async with self._changed:
            await self._look()
            return self._refusal(usd)

    async def settle(self, receipt: int, entry: Entry | None) -> None:
        """Books ``entry`` in place of the reservation, nothing when the call cost nothing; returns once the ledger has it."""
        await self._book([receipt], [] if entry is None else [entry])

    async def forfeit(self, usd: Decimal) -> None:
        """Books what a purse held whose process died: nobody knows which of its calls were paid."""
        await self._book([], [{"usd": str(usd), "tokens": 0, "lost": True}])

    async def totals(self) -> tuple[Decimal, int]:
        """Dollars and tokens that this stage of this run took, earlier attempts included."""
        return self._usd, self._tokens

    def _fits(self, usd: Decimal) -> bool:
        caps = ((self.cap, self.spent), (self._cap_30_days, self._window.total))
        return all(cap is None or paid + usd <= cap for cap, paid in caps)

    def _refusal(self, usd: Decimal) -> Refusal | None:
        """Why the call is refused even if all calls in flight turn out to cost nothing."""
        run, window = self._ledger.run, self._window
        itself = f"run {run.name}"
        payer, part = (f"agent {run.agent}", "budget") if run.agent else (itself, "execution")
        if self.cap is not None and self.spent + usd > self.cap:
            field = f"spec.{part}.{'maxUSDPerRun' if run.agent else 'maxUSD'} of {payer}"
            return Refusal("run", self.cap, itself, self.spent, self._since, usd, field)
        if self._cap_30_days is not None and window.total + usd > self._cap_30_days:
            field, due = f"spec.{part}.maxUSDPer30Days of {payer}", window.due(window.total + usd - self._cap_30_days)
            return Refusal("30 days", self._cap_30_days, payer, window.total, window.since(), usd, field, due)
        return None

    async def _look(self) -> None:
        """Learns what other runs paid, if the last look is too old, and whether this one may still pay."""
        self._window.forget(self._clock())
        if self._monotonic() - self._looked < LOOK_SECONDS:
            return
        looked = self._monotonic()
        with _kept():
            self._count(await asyncio.to_thread(self._news))
        self._looked = looked

    def _news(self) -> list[Payment]:
        self._check()
        return self._ledger.news() if self._cap_30_days is not None else []

    def _count(self, payments: Iterable[Payment]) -> None:
        for payment in payments:
            self._window.add(payment.at, payment.usd)
            if payment.run != self._ledger.run.uid:
                continue
            self.spent += payment.usd
            self._since = min(self._since or payment.at, payment.at)
            if payment.stage == self._stage:
                self._usd += payment.usd
                self._tokens += payment.tokens

    async def _book(self, receipts: Sequence[int], entries: Sequence[Entry]) -> None:
        run, now = self._ledger.run.uid, self._clock()
        about = {"run": run, "stage": self._stage, "at": now.isoformat(timespec="seconds")}
        if entries:
            with _kept():
                await self._commit.add([{**entry, **about} for entry in entries])
        async with self._changed:
            for receipt in receipts:
                self._held.pop(receipt, None)
            self._count(Payment(run, self._stage, now, Decimal(entry["usd"]), int(entry["tokens"])) for entry in entries)
            self._changed.notify_all()


@contextmanager
def _kept() -> Iterator[None]:
    """A ledger that cannot be kept ends the spending."""
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"the ledger cannot be kept ({error}); see to the artifact store") from error


def _decimal(amount: str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)
