"""What a load test measured. Pure."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from subterra_cli.chat.load.measured_client import MeasuredRequest

SHOWN = (50, 90, 99)
"""The percentiles that are shown, and the longest."""


@dataclass(frozen=True)
class LoadResult:
    """The requests of a load test and how its conversations went. `seconds` is from the first arrival to the last reply."""

    requests: Sequence[MeasuredRequest]
    conversations: int
    finished: int
    """Conversations that came to their end."""
    seconds: float


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of `values` do not exceed. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def load_figures(result: LoadResult, usd_per_hour: Decimal | None = None) -> dict[str, Any]:
    """Counts, percentiles in seconds, tokens per second and dollars, for scripts.

    `usd_per_hour` is the price of all replicas: a conversation costs its part of the hardware's time, at this load.
    """
    complete = [request for request in result.requests if request.error is None]
    failed = Counter(request.error for request in result.requests if request.error is not None)
    firsts = [request.first_token for request in complete if request.first_token is not None]
    return {
        "seconds": round(result.seconds, 2),
        "conversations": result.conversations,
        "conversationsFinished": result.finished,
        "requests": len(result.requests),
        "requestsFailed": failed.total(),
        "errors": dict(failed.most_common()),
        "requestsPerSecond": _per_second(len(complete), result.seconds),
        "latencySeconds": _percentiles([request.seconds for request in complete]),
        "firstTokenSeconds": _percentiles(firsts),
        "tokensPerSecond": _per_second(sum(request.completion_tokens for request in complete), result.seconds),
        "promptTokensPerSecond": _per_second(sum(request.prompt_tokens for request in complete), result.seconds),
        "usdPerConversation": _usd(result, usd_per_hour),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {f"p{percent}": round(percentile(values, percent), 4) for percent in SHOWN} | {"max": round(max(values), 4)}


def _per_second(count: int, seconds: float) -> float:
    return round(count / seconds, 2) if seconds else 0.0


def _usd(result: LoadResult, usd_per_hour: Decimal | None) -> str | None:
    if usd_per_hour is None or not result.finished:
        return None
    usd = usd_per_hour * Decimal(result.seconds) / 3600 / result.finished
    return f"{usd:.3g}" if usd < 1 else f"{usd:.2f}"


def load_table(figures: dict[str, Any]) -> list[str]:
    """The figures as lines for people."""
    talked, asked = (f"{figures[name]:,}" for name in ("conversations", "requests"))
    lines = [f"conversations  {talked} in {figures['seconds']:,.0f} s, {figures['conversationsFinished']:,} finished"]
    lines += [f"requests       {asked}, {figures['requestsFailed']:,} failed, {figures['requestsPerSecond']:g} per second"]
    lines += [f"  {kind}: {count:,}" for kind, count in figures["errors"].items()]
    lines += [_times("latency", figures["latencySeconds"]), _times("first token", figures["firstTokenSeconds"])]
    lines += [f"tokens         {figures['tokensPerSecond']:g} out and {figures['promptTokensPerSecond']:g} in per second"]
    price = figures["usdPerConversation"]
    return [*lines, f"conversation   {f'${price} at this load' if price else 'no price: it is not known'}"]


def _times(name: str, found: dict[str, float] | None) -> str:
    times = ", ".join(f"{name} {seconds:.3g} s" for name, seconds in (found or {}).items())
    return f"{name:13}  {times or 'not measured'}"
