"""Budget of a stage: a call's worst case is reserved before it and replaced by its actual cost afterwards."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import Budget
from subterra_jobs.errors import BudgetExceededError, InfrastructureError
from subterra_jobs.spending.caps import CapExceeded, RollingSpend
from subterra_jobs.spending.ledger import Ledger, LedgerEntry, Payment
from subterra_jobs.store.append_log import GroupCommit

REFRESH_SECONDS = 1.0
"""Refresh interval for other runs' spending. Calls take longer than this, so anything spent since the last refresh was already
counted as in flight.
"""


def utc_now() -> datetime:
    """The current time."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clocks:
    """Sources of time."""

    utc: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic


SYSTEM_CLOCKS = Clocks()


class BudgetGuard:
    """Budget of one stage, shared by all its calls. Every call's worst case stays reserved until it is committed, so the stage
    itself never exceeds a cap; payments by other runs of the same payer are read from the store.
    """

    def __init__(
        self,
        ledger: Ledger,
        stage: Stage,
        budget: Budget,
        *,
        check: Callable[[], None] = lambda: None,
        clocks: Clocks = SYSTEM_CLOCKS,
    ) -> None:
        """`check` raises a StageError when the stage must stop paying, whatever the caps say."""
        self._ledger, self._stage, self._check, self._clocks = ledger, stage, check, clocks
        self.cap, self._cap_30_days = _decimal(budget.max_usd), _decimal(budget.max_usd_per_30_days)
        self.spent = Decimal(0)
        self._first_payment_at: datetime | None = None
        self._rolling = RollingSpend()
        self._usd, self._tokens = Decimal(0), 0
        self._reserved: dict[int, Decimal] = {}
        self._last_reservation = 0
        self._commits = GroupCommit[LedgerEntry](ledger.append)
        self._changed = asyncio.Condition()
        self._refreshed_at = clocks.monotonic()
        self._count(ledger.new_payments())

    @property
    def reserved(self) -> Decimal:
        """Worst case of all calls in flight, in dollars."""
        return sum(self._reserved.values(), Decimal(0))

    async def reserve(self, usd: Decimal) -> int:
        """Number of a new reservation. Waits while calls in flight may still free enough of the budget.

        Raises BudgetExceededError when even that would not be enough.
        """
        async with self._changed:
            await self._refresh()
            while not self._fits(self.reserved + usd):
                if (exceeded := self._cap_exceeded(usd)) is not None:
                    raise BudgetExceededError(str(exceeded))
                await self._changed.wait()
                await self._refresh()
            self._last_reservation += 1
            self._reserved[self._last_reservation] = usd
            return self._last_reservation

    async def cap_exceeded(self, usd: Decimal) -> CapExceeded | None:
        """The cap that paying `usd` would exceed by the latest payments; `None` when it fits."""
        async with self._changed:
            await self._refresh()
            return self._cap_exceeded(usd)

    async def commit(self, reservation: int, entry: LedgerEntry | None) -> None:
        """Replaces a reservation by `entry`, `None` when the call cost nothing; returns once it is in the ledger."""
        await self._record([reservation], [] if entry is None else [entry])

    async def write_off(self, usd: Decimal) -> None:
        """Books the reservations of a guard whose process died, because its calls may or may not have been billed."""
        await self._record([], [{"usd": str(usd), "tokens": 0, "lost": True}])

    async def totals(self) -> tuple[Decimal, int]:
        """Dollars and tokens paid for this stage of this run, earlier attempts included."""
        return self._usd, self._tokens

    def _fits(self, usd: Decimal) -> bool:
        caps = ((self.cap, self.spent), (self._cap_30_days, self._rolling.total))
        return all(cap is None or paid + usd <= cap for cap, paid in caps)

    def _cap_exceeded(self, usd: Decimal) -> CapExceeded | None:
        """The cap that is exceeded even if all calls in flight turn out to be free."""
        run, rolling = self._ledger.run, self._rolling
        this_run = f"run {run.name}"
        payer, section = (f"agent {run.agent}", "budget") if run.agent else (this_run, "execution")
        if self.cap is not None and self.spent + usd > self.cap:
            field = f"spec.{section}.{'maxUSDPerRun' if run.agent else 'maxUSD'} of {payer}"
            return CapExceeded("run", self.cap, this_run, self.spent, self._first_payment_at, usd, field)
        cap = self._cap_30_days
        if cap is not None and rolling.total + usd > cap:
            field, freed_at = f"spec.{section}.maxUSDPer30Days of {payer}", rolling.freed_at(rolling.total + usd - cap)
            return CapExceeded("30 days", cap, payer, rolling.total, rolling.since(), usd, field, freed_at)
        return None

    async def _refresh(self) -> None:
        """Reads other runs' payments when the last refresh is too old, and checks whether this stage may still pay."""
        self._rolling.drop_expired(self._clocks.utc())
        if self._clocks.monotonic() - self._refreshed_at < REFRESH_SECONDS:
            return
        started = self._clocks.monotonic()
        with _ledger_errors():
            self._count(await asyncio.to_thread(self._new_payments))
        self._refreshed_at = started

    def _new_payments(self) -> list[Payment]:
        self._check()
        return self._ledger.new_payments() if self._cap_30_days is not None else []

    def _count(self, payments: Iterable[Payment]) -> None:
        for payment in payments:
            self._rolling.add(payment.at, payment.usd)
            if payment.run != self._ledger.run.uid:
                continue
            self.spent += payment.usd
            self._first_payment_at = min(self._first_payment_at or payment.at, payment.at)
            if payment.stage == self._stage:
                self._usd += payment.usd
                self._tokens += payment.tokens

    async def _record(self, reservations: Sequence[int], entries: Sequence[LedgerEntry]) -> None:
        run, now = self._ledger.run.uid, self._clocks.utc()
        origin = {"run": run, "stage": self._stage, "at": now.isoformat(timespec="seconds")}
        if entries:
            with _ledger_errors():
                await self._commits.add([{**entry, **origin} for entry in entries])
        async with self._changed:
            for reservation in reservations:
                self._reserved.pop(reservation, None)
            self._count(Payment(run, self._stage, now, Decimal(entry["usd"]), int(entry["tokens"])) for entry in entries)
            self._changed.notify_all()


@contextmanager
def _ledger_errors() -> Iterator[None]:
    """Turns OSError into InfrastructureError: without a ledger nothing may be paid."""
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"the ledger cannot be read or written ({error}); check the artifact store") from error


def _decimal(amount: str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)
