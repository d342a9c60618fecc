"""Caps on spending and the payments that count against them. Pure."""

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

WINDOW = timedelta(days=30)


class RollingSpend:
    """Payments of the last 30 days."""

    def __init__(self) -> None:
        self.total = Decimal(0)
        self._payments: list[tuple[datetime, Decimal]] = []

    def add(self, at: datetime, usd: Decimal) -> None:
        """Counts a payment."""
        heapq.heappush(self._payments, (at, usd))
        self.total += usd

    def drop_expired(self, now: datetime) -> None:
        """Stops counting payments older than the window."""
        while self._payments and self._payments[0][0] <= now - WINDOW:
            self.total -= heapq.heappop(self._payments)[1]

    def since(self) -> datetime | None:
        """Time of the oldest payment that counts."""
        return self._payments[0][0] if self._payments else None

    def freed_at(self, usd: Decimal) -> datetime | None:
        """Time when `usd` of the payments will have left the window; `None` when less was paid."""
        freed = Decimal(0)
        for at, paid in sorted(self._payments):
            freed += paid
            if freed >= usd:
                return at + WINDOW
        return None


@dataclass(frozen=True)
class CapExceeded:
    """A cap that the next call, or all remaining calls, could exceed. Amounts in dollars."""

    period: str
    """Period of the cap: `run` or `30 days`."""
    cap: Decimal
    payer: str
    paid: Decimal
    since: datetime | None
    call_usd: Decimal
    """Highest possible cost of the call."""
    field: str
    """Field to raise."""
    freed_at: datetime | None = None
    """When enough payments have left the window."""

    @property
    def summary(self) -> str:
        """The cap, what was paid and what is left."""
        left = max(Decimal(0), self.cap - self.paid)
        since = f" since {_time(self.since)}" if self.since else ""
        return f"the cap per {self.period} is {_usd(self.cap)}: {self.payer} paid {_usd(self.paid)}{since}, {_usd(left)} is left"

    @property
    def fix(self) -> str:
        """What to do, as the beginning of a clause."""
        if self.freed_at is None:
            return f"raise {self.field}"
        due = _time(self.freed_at + timedelta(minutes=1))
        return f"raise {self.field}, or wait until {due}, when enough of it is older than 30 days"

    def __str__(self) -> str:
        return f"{self.summary}, and the next call could cost {_usd(self.call_usd)}; {self.fix}"


def _usd(amount: Decimal) -> str:
    return f"${amount.normalize():f}"


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")
