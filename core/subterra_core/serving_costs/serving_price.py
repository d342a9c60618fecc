"""The price of served conversations: hardware time over work, in Decimal US dollars. The only place where it is defined.

| price | formula |
|---|---|
| a conversation, busy | $/hour × busy hours / conversations |
| a conversation, with idle | $/hour × all hours / conversations |
| a million tokens read | $/hour × busy hours × prefill share / million tokens read |
| a million tokens written | $/hour × busy hours × decode share / million tokens written |

Prefill and decode share the busy time as they share the requests' own time, so the last two add up to the first.
"""

from collections.abc import Iterable
from decimal import Decimal

from subterra_api.job_contract.messages import ServedWork
from subterra_api.v1alpha1.compiledagent import Price
from subterra_core.pricing import MILLION, TokenPrice, format_usd, usd_per_conversation

HOUR = Decimal(3600)


def total_work(works: Iterable[ServedWork]) -> ServedWork:
    """The sum of several pods' work."""
    listed = [*works]
    return ServedWork(**{name: float(sum(getattr(work, name) for work in listed)) for name in ServedWork.model_fields})


def busy_price(work: ServedWork, usd_per_hour: Decimal) -> Decimal | None:
    """US dollars of busy time per conversation; `None` without conversations."""
    return usd_per_conversation(usd_per_hour, work.busy_seconds, work.conversations)


def price_with_idle(work: ServedWork, usd_per_hour: Decimal) -> Decimal | None:
    """US dollars of all time per conversation; `None` without conversations."""
    return usd_per_conversation(usd_per_hour, work.seconds, work.conversations)


def throughput_price(usd_per_hour: Decimal, tokens_per_second: Decimal) -> Decimal:
    """US dollars per million tokens at a constant throughput."""
    return usd_per_hour / HOUR / tokens_per_second * MILLION


def measured_token_price(work: ServedWork, usd_per_hour: Decimal) -> TokenPrice | None:
    """US dollars per million tokens read and written; `None` before there is work of both kinds."""
    own_time = work.prefill_seconds + work.decode_seconds
    if own_time <= 0 or work.prompt_tokens <= 0 or work.generation_tokens <= 0:
        return None
    busy_usd = usd_per_hour * _decimal(work.busy_seconds) / HOUR
    prefill = _decimal(work.prefill_seconds) / _decimal(own_time)
    read = busy_usd * prefill / _decimal(work.prompt_tokens) * MILLION
    written = busy_usd * (1 - prefill) / _decimal(work.generation_tokens) * MILLION
    return TokenPrice(read, written, read, read)


def price_of_work(work: ServedWork, usd_per_hour: Decimal) -> Price:
    """The price as in the status of a `CompiledAgent`; without prices before the first conversation."""
    busy, with_idle = busy_price(work, usd_per_hour), price_with_idle(work, usd_per_hour)
    return Price(
        usd_per_conversation=None if busy is None else format_usd(busy),
        usd_per_conversation_with_idle=None if with_idle is None else format_usd(with_idle),
        usd_per_hour=format_usd(usd_per_hour),
        conversations=int(work.conversations),
        idle_percent=round(100 * (1 - work.busy_seconds / work.seconds)) if work.seconds > 0 else None,
    )


def _decimal(number: float) -> Decimal:
    return Decimal(str(number))
