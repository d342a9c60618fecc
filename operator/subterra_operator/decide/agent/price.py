"""The agent's price, combined from its pods' measurements, and which of them its status reports."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from subterra_api.v1alpha1.compiledagent import Price
from subterra_api.v1alpha1.conditions import timestamp
from subterra_core.pricing import format_usd
from subterra_operator.decide.decision import seconds_since

REPORT_SECONDS = 3600.0
"""Least time between two prices in the status: it is for people and `kubectl get`, the metrics have every measurement."""


def price_to_report(before: Price | None, current: Price | None, now: datetime) -> tuple[Price | None, float | None]:
    """The price for the status, and the seconds until a newer one may be written, if there is one.

    The price with idle time changes with every second, so it alone is no reason to write: an agent at rest keeps its status.
    """
    if before is None or current is None:
        return _measured(current, now), None
    if current.conversations is None:  # no pod has answered yet
        return before.model_copy(update={"compile_usd": current.compile_usd}), None
    if not has_moved(before, current):
        return before, None
    left = REPORT_SECONDS - seconds_since(before.measured_at, now)
    is_first = before.usd_per_conversation is None and current.usd_per_conversation is not None
    if is_first or left <= 0 or _terms(before) != _terms(current):
        return _measured(current, now), None
    return before, left


def has_moved(before: Price, current: Price) -> bool:
    """Whether there were conversations since, or the terms have changed."""
    measured = (before.conversations, before.usd_per_conversation) != (current.conversations, current.usd_per_conversation)
    return measured or _terms(before) != _terms(current)


def _terms(price: Price) -> tuple[str | None, str | None]:
    """What people decide, so that its change shows at once."""
    return price.usd_per_hour, price.compile_usd


def _measured(price: Price | None, now: datetime) -> Price | None:
    return price.model_copy(update={"measured_at": timestamp(now)}) if price else None


def combine_prices(prices: Sequence[Price], usd_per_hour: str, compile_usd: str | None) -> Price | None:
    """One price for all pods, weighted by their conversations and scaled to the current hourly price."""
    if not prices and compile_usd is None:
        return None
    conversations = sum(price.conversations or 0 for price in prices)
    idle = [price.idle_percent for price in prices if price.idle_percent is not None]
    return Price(
        usd_per_conversation=_mean(prices, "usd_per_conversation", usd_per_hour),
        usd_per_conversation_with_idle=_mean(prices, "usd_per_conversation_with_idle", usd_per_hour),
        usd_per_hour=usd_per_hour,
        conversations=conversations if prices else None,
        idle_percent=round(sum(idle) / len(idle)) if idle else None,
        compile_usd=compile_usd,
    )


def _mean(prices: Sequence[Price], field: str, usd_per_hour: str) -> str | None:
    weighted, weights = Decimal(0), Decimal(0)
    for price in prices:
        value, weight = getattr(price, field), Decimal(price.conversations or 0)
        if value is None or not weight:
            continue
        measured_at = Decimal(price.usd_per_hour or usd_per_hour)
        scale = Decimal(usd_per_hour) / measured_at if measured_at else Decimal(1)
        weighted, weights = weighted + Decimal(value) * scale * weight, weights + weight
    return format_usd(weighted / weights) if weights else None
