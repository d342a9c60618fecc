"""Prices of providers and of hardware, in Decimal dollars."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from pydantic import TypeAdapter

from subterra_api.v1alpha1.base import ApiModel, Money

MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class TokenPrice:
    """US dollars per million tokens."""

    input: Decimal
    output: Decimal
    cache_write: Decimal
    cache_read: Decimal

    @property
    def paid(self) -> bool:
        """Whether anything costs anything."""
        return any((self.input, self.output, self.cache_write, self.cache_read))


class ModelPrice(ApiModel):
    """An administrator's price of a model, in US dollars per million tokens; "0" for a server of one's own."""

    input: Money
    output: Money
    cache_write: Money | None = None
    """Default: as input."""
    cache_read: Money | None = None
    """Default: as input."""

    def price(self) -> TokenPrice:
        """As numbers."""
        write, read = self.cache_write or self.input, self.cache_read or self.input
        return TokenPrice(Decimal(self.input), Decimal(self.output), Decimal(write), Decimal(read))


PRICE_TABLE = TypeAdapter(dict[str, ModelPrice])
"""Prices by a model's name, as JSON in an environment variable."""
_DATED = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2}|latest)")


def _list_price(input_usd: str, output_usd: str) -> TokenPrice:
    """Cache writes cost 1.25 x, cache reads 0.1 x of input, for all models of Anthropic."""
    price = Decimal(input_usd)
    return TokenPrice(price, Decimal(output_usd), price * Decimal("1.25"), price * Decimal("0.1"))


def _openai(input_usd: str, cached_usd: str, output_usd: str) -> TokenPrice:
    """Writing to the cache costs nothing more than input."""
    price = Decimal(input_usd)
    return TokenPrice(price, Decimal(output_usd), price, Decimal(cached_usd))


# List prices as of March 2026: Anthropic's (platform.claude.com, pricing), whose claude-sonnet-4-5 is the paper's teacher (arXiv
# 2605.22502), and OpenAI's (developers.openai.com, pricing). An administrator's `prices` come first.
PRICES: dict[str, TokenPrice] = {
    "claude-sonnet-4-5": _list_price("3", "15"),
    "claude-sonnet-4-6": _list_price("3", "15"),
    "claude-haiku-4-5": _list_price("1", "5"),
    "claude-opus-4-6": _list_price("5", "25"),
    "gpt-4.1": _openai("2", "0.5", "8"),
    "gpt-4.1-mini": _openai("0.4", "0.1", "1.6"),
    "gpt-4.1-nano": _openai("0.1", "0.025", "0.4"),
    "gpt-4o": _openai("2.5", "1.25", "10"),
    "gpt-4o-mini": _openai("0.15", "0.075", "0.6"),
}


class UnknownModelError(ValueError):
    """No price is known, so no budget can be kept."""


def prices_from(text: str) -> dict[str, TokenPrice]:
    """An administrator's prices from JSON; none from nothing."""
    return {name: given.price() for name, given in PRICE_TABLE.validate_json(text or "{}").items()}


def price_of(model: str, given: Mapping[str, TokenPrice] | None = None) -> TokenPrice:
    """The price of a provider's model: as given, else as listed, dated suffixes ignored. Raises UnknownModelError."""
    if given and model in given:
        return given[model]
    known = PRICES | dict(given or {})
    for name, price in known.items():
        if model == name or (model.startswith(name) and _DATED.fullmatch(model[len(name) :])):
            return price
    names = ", ".join(sorted(known))
    raise UnknownModelError(
        f"no price is known for model {model!r}; use one of: {names}; or have its price added to prices of the chart's values"
    )


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
