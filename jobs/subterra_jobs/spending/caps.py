"""Caps on spending and what counts against them. Pure."""

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

WINDOW = timedelta(days=30)


class Window:
    """What was paid in the last 30 days."""

    def __init__(self) -> None:
        self.total = Decimal(0)
        self._paid: list[tuple[datetime, Decimal]] = []

    def add(self, at: datetime, usd: Decimal) -> None:
        """Counts a payment."""
        heapq.heappush(self._paid, (at, usd))
        self.total += usd

    def forget(self, now: datetime) -> None:
        """Leaves out what is older than the window by now."""
        while self._paid and self._paid[0][0] <= now - WINDOW:
            self.total -= heapq.heappop(self._paid)[1]

    def since(self) -> datetime | None:
        """When the oldest payment was made that counts."""
        return self._paid[0][0] if self._paid else None

    def due(self, usd: Decimal) -> datetime | None:
        """When so much has left the window; none when that much was not paid."""
        left = Decimal(0)
        for at, paid in sorted(self._paid):
            left += paid
            if left >= usd:
                return at + WINDOW
        return None


@dataclass(frozen=True)
class Refusal:
    """A call, or all calls ahead, that could bring spending above a cap. Amounts in dollars."""

    period: str
    """What the cap is for: ``run`` or ``30 days``."""
    cap: Decimal
    payer: str
    paid: Decimal
    since: datetime | None
    call: Decimal
    """What it could cost."""
    field: str
    """What to raise."""
    due: datetime | None = None
    """When enough of what was paid counts no longer."""

    @property
    def told(self) -> str:
        """The cap, and what is left under it."""
        left = max(Decimal(0), self.cap - self.paid)
        since = f" since {_time(self.since)}" if self.since else ""
        return f"the cap per {self.period} is {_usd(self.cap)}: {self.payer} paid {_usd(self.paid)}{since}, {_usd(left)} is left"

    @property
    def cure(self) -> str:
        """What to do, in words that may begin a clause."""
        if self.due is None:
            return f"raise {self.field}"
        due = _time(self.due + timedelta(minutes=1))
        return f"raise {self.field}, or wait until {due}, when enough of it is older than 30 days"

    def __str__(self) -> str:
        return f"{self.told}, and the next call could cost {_usd(self.call)}; {self.cure}"


def _usd(amount: Decimal) -> str:
    return f"${amount.normalize():f}"


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")
