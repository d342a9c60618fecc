"""Prices of providers and of hardware, in Decimal dollars."""

from dataclasses import dataclass
from decimal import Decimal

MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class TokenPrice:
    """US dollars per million tokens."""

    input: Decimal
    output: Decimal
    cache_write: Decimal
    cache_read: Decimal


def _list_price(input_usd: str, output_usd: str) -> TokenPrice:
    """Cache writes cost 1.25 x, cache reads 0.1 x of input, for all models."""
    price = Decimal(input_usd)
    return TokenPrice(price, Decimal(output_usd), price * Decimal("1.25"), price * Decimal("0.1"))


# The provider's list prices as of March 2026; claude-sonnet-4-5 is the paper's teacher (arXiv 2605.22502).
PRICES: dict[str, TokenPrice] = {
    "claude-sonnet-4-5": _list_price("3", "15"),
    "claude-sonnet-4-6": _list_price("3", "15"),
    "claude-haiku-4-5": _list_price("1", "5"),
    "claude-opus-4-6": _list_price("5", "25"),
}


class UnknownModelError(ValueError):
    """No price is known, so no budget can be kept."""


def price_of(model: str) -> TokenPrice:
    """The price of a provider's model, dated suffixes ignored. Raises UnknownModelError."""
    for name, price in PRICES.items():
        if model == name or model.startswith(name + "-"):
            return price
    known = ", ".join(sorted(PRICES))
    raise UnknownModelError(f"no price is known for model {model!r}; use one of: {known}")


def call_cost(price: TokenPrice, input_tokens: int, output_tokens: int, cache_write: int = 0, cache_read: int = 0) -> Decimal:
    """Dollars for one call."""
    parts = (
        input_tokens * price.input + output_tokens * price.output + cache_write * price.cache_write + cache_read * price.cache_read
    )
    return parts / MILLION


def money(amount: Decimal) -> str:
    """Six decimals at most, no exponent, as `Money` fields want it."""
    text = f"{amount:.6f}".rstrip("0").rstrip(".")
    return text or "0"


def usd_per_conversation(usd_per_hour: Decimal, seconds: float, conversations: float) -> Decimal | None:
    """Dollars of hardware time per conversation; none before the first conversation."""
    if conversations <= 0:
        return None
    return usd_per_hour * Decimal(str(seconds)) / Decimal(3600) / Decimal(str(conversations))
