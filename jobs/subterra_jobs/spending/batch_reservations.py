"""What is reserved for batches of calls, which outlive the process that began them. Pure."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from subterra_jobs.spending.caps import WINDOW
from subterra_jobs.spending.ledger import Payment


class BatchReservations:
    """Batches by name, as the ledger has them: begun, and ended or not. Entries may come in any order."""

    def __init__(self) -> None:
        self._begun: dict[str, Payment] = {}
        self._ended: set[str] = set()

    def note(self, payment: Payment) -> None:
        """Takes note of a ledger entry that begins or ends a batch; ignores others."""
        if payment.batch is None:
            return
        if payment.ends_batch:
            self._ended.add(payment.batch)
        elif payment.reserved is not None:
            self._begun[payment.batch] = payment

    def drop_expired(self, now: datetime) -> None:
        """Forgets batches that began more than 30 days ago: providers have deleted their results by then."""
        self._begun = {name: payment for name, payment in self._begun.items() if payment.at > now - WINDOW}

    def has_ended(self, name: str) -> bool:
        """True once what the batch cost is in the ledger."""
        return name in self._ended

    def open(self, run: str) -> list[str]:
        """Batches of a run that have not ended."""
        return [name for name, payment in self._begun.items() if payment.run == run and name not in self._ended]

    def reserved(self, run: str) -> tuple[Decimal, Decimal]:
        """Dollars reserved for open batches of this run, and of all others."""
        pending = [payment for name, payment in self._begun.items() if name not in self._ended]
        return _total([each for each in pending if each.run == run]), _total([each for each in pending if each.run != run])


def _total(payments: Sequence[Payment]) -> Decimal:
    return sum((payment.reserved or Decimal(0) for payment in payments), Decimal(0))
