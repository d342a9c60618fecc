"""Prices of providers and hardware, in Decimal dollars."""

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
    def costs_money(self) -> bool:
        """Whether any of the prices is above zero."""
        return any((self.input, self.output, self.cache_write, self.cache_read))


class ModelPrice(ApiModel):
    """An administrator's price of a model, in US dollars per million tokens; "0" for a self-hosted server."""

    input: Money
    output: Money
    cache_write: Money | None = None
    """Default: same as input."""
    cache_read: Money | None = None
    """Default: same as input."""

    def to_token_price(self) -> TokenPrice:
        """The price in Decimal, with defaults filled in."""
        write, read = self.cache_write or self.input, self.cache_read or self.input
        return TokenPrice(Decimal(self.input), Decimal(self.output), Decimal(write), Decimal(read))


PRICE_TABLE = TypeAdapter(dict[str, ModelPrice])
"""Prices by model name, as JSON in an environment variable."""
_DATED = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2}|latest)")


def _anthropic(input_usd: str, output_usd: str) -> TokenPrice:
    """For all Anthropic models, cache writes cost 1.25 x and cache reads 0.1 x the input price."""
    price = Decimal(input_usd)
    return TokenPrice(price, Decimal(output_usd), price * Decimal("1.25"), price * Decimal("0.1"))


def _openai(input_usd: str, cached_usd: str, output_usd: str) -> TokenPrice:
    """For all OpenAI models, cache writes cost the input price."""
    price = Decimal(input_usd)
    return TokenPrice(price, Decimal(output_usd), price, Decimal(cached_usd))


# List prices as of March 2026: Anthropic's (platform.claude.com, pricing), whose claude-sonnet-4-5 is the paper's teacher (arXiv
# 2605.22502), and OpenAI's (developers.openai.com, pricing). An administrator's `prices` take precedence.
PRICES: dict[str, TokenPrice] = {
    "claude-sonnet-4-5": _anthropic("3", "15"),
    "claude-sonnet-4-6": _anthropic("3", "15"),
    "claude-haiku-4-5": _anthropic("1", "5"),
    "claude-opus-4-6": _anthropic("5", "25"),
    "gpt-4.1": _openai("2", "0.5", "8"),
    "gpt-4.1-mini": _openai("0.4", "0.1", "1.6"),
    "gpt-4.1-nano": _openai("0.1", "0.025", "0.4"),
    "gpt-4o": _openai("2.5", "1.25", "10"),
    "gpt-4o-mini": _openai("0.15", "0.075", "0.6"),
}


class UnknownModelError(ValueError):
    """No price is known for a model, so no budget can be enforced."""


def parse_prices(text: str) -> dict[str, TokenPrice]:
    """An administrator's prices from JSON; empty for an empty `text`."""
    return {name: price.to_token_price() for name, price in PRICE_TABLE.validate_json(text or "{}").items()}


def price_of(model: str, given: Mapping[str, TokenPrice] | None = None) -> TokenPrice:
    """Price of a provider's model from `given`, else from the list, ignoring date suffixes. Raises UnknownModelError."""
    if given and model in given:
        return given[model]
    known = PRICES | dict(given or {})
    for name, price in known.items():
        if model == name or (model.startswith(name) and _DATED.fullmatch(model[len(name) :])):
            return price
    names = ", ".join(sorted(known))
    raise UnknownModelError(
        f"no price is known for model {model!r}; use one of: {names}; or add it to `prices` in the chart's values"
    )


def call_cost(price: TokenPrice, input_tokens: int, output_tokens: int, cache_write: int = 0, cache_read: int = 0) -> Decimal:
    """Cost of one call in US dollars."""
    parts = (
        input_tokens * price.input + output_tokens * price.output + cache_write * price.cache_write + cache_read * price.cache_read
    )
    return parts / MILLION


def format_usd(amount: Decimal) -> str:
    """`amount` for `Money` fields: at most six decimals, no exponent."""
    text = f"{amount:.6f}".rstrip("0").rstrip(".")
    return text or "0"


def usd_per_conversation(usd_per_hour: Decimal, seconds: float, conversations: float) -> Decimal | None:
    """Hardware cost per conversation in US dollars; `None` without conversations."""
    if conversations <= 0:
        return None
    return usd_per_hour * Decimal(str(seconds)) / Decimal(3600) / Decimal(str(conversations))
