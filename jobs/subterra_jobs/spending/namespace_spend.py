"""What all payers of a namespace together have paid within 30 days, against the administrator's cap. Pure."""

from datetime import datetime
from decimal import Decimal

from subterra_api.job_contract.messages import RunIdentity
from subterra_jobs.spending.batch_reservations import BatchReservations
from subterra_jobs.spending.caps import CapExceeded, RollingSpend
from subterra_jobs.spending.ledger import Payment


class NamespaceSpend:
    """Payments and open batches of all payers whose ledgers are in the namespace's store. Without a cap everything fits."""

    def __init__(self, run: RunIdentity, cap: Decimal | None) -> None:
        self.cap, self._run = cap, run
        self._rolling, self._batches = RollingSpend(), BatchReservations()

    def count(self, payment: Payment) -> None:
        """Counts a payment of any payer."""
        if self.cap is not None:
            self._rolling.add(payment.at, payment.usd)
            self._batches.note(payment)

    def drop_expired(self, now: datetime) -> None:
        """Stops counting what is older than 30 days."""
        self._rolling.drop_expired(now)
        self._batches.drop_expired(now)

    def fits(self, usd: Decimal) -> bool:
        """Whether `usd`, all that this run has reserved included, may still be paid."""
        return self.cap is None or self._paid + usd <= self.cap

    def exceeded(self, usd: Decimal) -> CapExceeded | None:
        """The cap that paying `usd` would exceed; `None` when it fits."""
        if self.cap is None or self.fits(usd):
            return None
        namespace = f"namespace {self._run.namespace}"
        freed_at = self._rolling.freed_at(self._paid + usd - self.cap)
        field = f"the cap of {namespace}, which is the administrator's (budgets in the chart's values)"
        return CapExceeded("30 days", self.cap, namespace, self._paid, self._rolling.since(), usd, field, freed_at)

    @property
    def _paid(self) -> Decimal:
        """Paid, or reserved for open batches of other runs, which is as good as paid."""
        return self._rolling.total + self._batches.reserved(self._run.uid)[1]
