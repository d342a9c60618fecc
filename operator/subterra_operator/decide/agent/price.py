"""The agent's price, from what its pods measured."""

from collections.abc import Sequence
from decimal import Decimal

from subterra_api.v1alpha1.compiledagent import Price
from subterra_core.pricing import money


def combined(prices: Sequence[Price], usd_per_hour: str, compile_usd: str | None) -> Price | None:
    """One price for all pods, each weighted by its conversations; at today's hourly price, whatever the pods were started with."""
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
        told = Decimal(price.usd_per_hour or usd_per_hour)
        scale = Decimal(usd_per_hour) / told if told else Decimal(1)
        weighted, weights = weighted + Decimal(value) * scale * weight, weights + weight
    return money(weighted / weights) if weights else None
