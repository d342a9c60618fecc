"""Budget of a stage: a call's worst case is reserved before it and replaced by its actual cost afterwards."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import Budget, RunIdentity
from subterra_jobs.errors import BudgetExceededError, InfrastructureError
from subterra_jobs.spending.batch_reservations import BatchReservations
from subterra_jobs.spending.caps import CapExceeded, RollingSpend
from subterra_jobs.spending.ledger import Ledger, LedgerEntry, Payment, payment_of
from subterra_jobs.spending.namespace_spend import NamespaceSpend
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
        self.batches = BatchReservations()
        self._namespace = NamespaceSpend(ledger.run, _decimal(budget.max_usd_per_namespace_per_30_days))
        self._usd, self._tokens = Decimal(0), 0
        self._sent = self._cache_read = 0
        self._reserved: dict[int, Decimal] = {}
        self._last_reservation = 0
        self._commits = GroupCommit[LedgerEntry](ledger.append)
        self._changed = asyncio.Condition()
        self._refreshed_at = clocks.monotonic()
        self._count(ledger.new_payments())
        self._count_others(self._new_payments_of_others())

    @property
    def reserved(self) -> Decimal:
        """Worst case of all calls in flight and of this run's open batches, in dollars."""
        return sum(self._reserved.values(), Decimal(0)) + self.batches.reserved(self._ledger.run.uid)[0]

    async def reserve(self, usd: Decimal) -> int:
        """Number of a new reservation. Waits while calls in flight may still free enough of the budget.

        Raises BudgetExceededError when even that would not be enough.
        """
        async with self._changed:
            await self._refresh()
            await self._wait_for(usd)
            return self._reserve(usd)

    async def reserve_batch(self, name: str, amounts: Sequence[Decimal]) -> int:
        """Reserves, in the ledger, for as many of a new batch's first calls as the caps leave room for; returns their number.

        Waits and raises as `reserve` does for the first call.
        """
        async with self._changed:
            await self._refresh()
            await self._wait_for(amounts[0])
            sums = list(accumulate(amounts))
            count = max(index + 1 for index, usd in enumerate(sums) if index == 0 or self._fits(self.reserved + usd))
            reservation = self._reserve(sums[count - 1])
        await self._record([reservation], [{"usd": "0", "tokens": 0, "batch": name, "reserved": str(sums[count - 1])}])
        return count

    async def end_batch(self, name: str, run: RunIdentity, entries: Sequence[LedgerEntry]) -> None:
        """Books what a batch cost in the ledger of the run that began it, and ends its reservation: all at once, and only once."""
        end = {"usd": "0", "tokens": 0, "batch": name, "endsBatch": True}
        booked = [*({**entry, "batch": name} for entry in entries), end]
        if run.payer == self._ledger.run.payer:
            if not self.batches.has_ended(name):
                await self._record([], booked, run.uid)
            return
        with _ledger_errors():
            await asyncio.to_thread(self._end_foreign_batch, name, run, booked)

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

    @property
    def cached_share(self) -> float | None:
        """Share of this stage's prompts that providers read from their caches; `None` before a prompt was billed."""
        return self._cache_read / self._sent if self._sent else None

    async def _wait_for(self, usd: Decimal) -> None:
        """Returns once `usd` fits next to all reservations. Raises BudgetExceededError when it never will."""
        while not self._fits(self.reserved + usd):
            if (exceeded := self._cap_exceeded(usd)) is not None:
                raise BudgetExceededError(str(exceeded))
            await self._changed.wait()
            await self._refresh()

    def _reserve(self, usd: Decimal) -> int:
        self._last_reservation += 1
        self._reserved[self._last_reservation] = usd
        return self._last_reservation

    @property
    def _others(self) -> Decimal:
        """Reserved for batches of the payer's other runs, which no process may be waiting for: as good as spent."""
        return self.batches.reserved(self._ledger.run.uid)[1]

    def _fits(self, usd: Decimal) -> bool:
        caps = ((self.cap, self.spent), (self._cap_30_days, self._rolling.total + self._others))
        return all(cap is None or paid + usd <= cap for cap, paid in caps) and self._namespace.fits(usd)

    def _cap_exceeded(self, usd: Decimal) -> CapExceeded | None:
        """The cap that is exceeded even if all calls in flight turn out to be free."""
        run, rolling = self._ledger.run, self._rolling
        this_run = f"run {run.name}"
        payer, section = (f"agent {run.agent}", "budget") if run.agent else (this_run, "execution")
        if self.cap is not None and self.spent + usd > self.cap:
            field = f"spec.{section}.{'maxUSDPerRun' if run.agent else 'maxUSD'} of {payer}"
            return CapExceeded("run", self.cap, this_run, self.spent, self._first_payment_at, usd, field)
        cap, paid = self._cap_30_days, rolling.total + self._others
        if cap is not None and paid + usd > cap:
            field, freed_at = f"spec.{section}.maxUSDPer30Days of {payer}", rolling.freed_at(paid + usd - cap)
            return CapExceeded("30 days", cap, payer, paid, rolling.since(), usd, field, freed_at)
        return self._namespace.exceeded(usd)

    async def _refresh(self) -> None:
        """Reads other runs' payments when the last refresh is too old, and checks whether this stage may still pay."""
        self._rolling.drop_expired(self._clocks.utc())
        self.batches.drop_expired(self._clocks.utc())
        self._namespace.drop_expired(self._clocks.utc())
        if self._clocks.monotonic() - self._refreshed_at < REFRESH_SECONDS:
            return
        started = self._clocks.monotonic()
        with _ledger_errors():
            self._count(await asyncio.to_thread(self._new_payments))
            self._count_others(await asyncio.to_thread(self._new_payments_of_others))
        self._refreshed_at = started

    def _new_payments(self) -> list[Payment]:
        self._check()
        capped = self._cap_30_days is not None or self._namespace.cap is not None
        return self._ledger.new_payments() if capped else []

    def _new_payments_of_others(self) -> list[Payment]:
        return self._ledger.new_payments_of_others() if self._namespace.cap is not None else []

    def _count_others(self, payments: Iterable[Payment]) -> None:
        for payment in payments:
            self._namespace.count(payment)

    def _count(self, payments: Iterable[Payment]) -> None:
        for payment in payments:
            self._rolling.add(payment.at, payment.usd)
            self._namespace.count(payment)
            self.batches.note(payment)
            if payment.run != self._ledger.run.uid:
                continue
            self.spent += payment.usd
            self._first_payment_at = min(self._first_payment_at or payment.at, payment.at)
            if payment.stage == self._stage:
                self._usd += payment.usd
                self._tokens += payment.tokens
                self._sent += payment.sent
                self._cache_read += payment.cache_read

    async def _record(self, reservations: Sequence[int], entries: Sequence[LedgerEntry], run: str | None = None) -> None:
        dated = self._dated(entries, run or self._ledger.run.uid)
        if dated:
            with _ledger_errors():
                await self._commits.add(dated)
        async with self._changed:
            for reservation in reservations:
                self._reserved.pop(reservation, None)
            self._count(map(payment_of, dated))
            self._changed.notify_all()

    def _dated(self, entries: Iterable[LedgerEntry], run: str) -> list[LedgerEntry]:
        origin = {"run": run, "stage": self._stage, "at": self._clocks.utc().isoformat(timespec="seconds")}
        return [{**entry, **origin} for entry in entries]

    def _end_foreign_batch(self, name: str, run: RunIdentity, entries: Sequence[LedgerEntry]) -> None:
        """Books in another payer's ledger, whose payments are not this guard's."""
        ledger = self._ledger.of(run)
        if not any(payment.batch == name and payment.ends_batch for payment in ledger.new_payments()):
            ledger.append(self._dated(entries, run.uid))


@contextmanager
def _ledger_errors() -> Iterator[None]:
    """Turns OSError into InfrastructureError: without a ledger nothing may be paid."""
    try:
        yield
    except OSError as error:
        raise InfrastructureError(f"the ledger cannot be read or written ({error}); check the artifact store") from error


def _decimal(amount: str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)
