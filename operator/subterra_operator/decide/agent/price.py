"""The agent's price, combined from its pods' measurements."""

from collections.abc import Sequence
from decimal import Decimal

from subterra_api.v1alpha1.compiledagent import Price
from subterra_core.pricing import format_usd


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
