"""Prices of providers and hardware, in Decimal dollars."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from pydantic import TypeAdapter

from subterra_api.v1alpha1.base import ApiModel, Money
from subterra_core.hosted_models.catalog import HostedModel, close_names, is_dated, model_named

MILLION = Decimal(1_000_000)
NEVER = Decimal("Infinity")


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


def _list_price(model: HostedModel) -> TokenPrice:
    prices = model.usd_per_million
    return TokenPrice(prices.input, prices.output, prices.cache_write, prices.cache_read)


class UnknownModelError(ValueError):
    """No price is known for a model, so no budget can be enforced."""


def parse_prices(text: str) -> dict[str, TokenPrice]:
    """An administrator's prices from JSON; empty for an empty `text`."""
    return {name: price.to_token_price() for name, price in PRICE_TABLE.validate_json(text or "{}").items()}


def price_of(model: str, given: Mapping[str, TokenPrice] | None = None) -> TokenPrice:
    """Price of a provider's model from `given`, else its list price, ignoring date suffixes. Raises UnknownModelError."""
    if given and model in given:
        return given[model]
    for name, price in (given or {}).items():
        if is_dated(model, name):
            return price
    if (known := model_named(model)) is not None:
        return _list_price(known)
    close = close_names(model, given or ())
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    own = f" and `prices` has {', '.join(sorted(given))}" if given else ""
    raise UnknownModelError(
        f"no price is known for model {model!r}; {meant}`subterra models` lists those with a list price{own}; "
        "or add it to `prices` in the chart's values"
    )


Tokens = int | Decimal


def call_cost(
    price: TokenPrice, input_tokens: Tokens, output_tokens: Tokens, cache_write: Tokens = 0, cache_read: Tokens = 0
) -> Decimal:
    """Cost of one call, or of the mean conversation, in US dollars."""
    read = input_tokens * price.input + cache_write * price.cache_write + cache_read * price.cache_read
    return (read + output_tokens * price.output) / MILLION


def break_even(compile_usd: Decimal, compiled: Decimal, compared: Decimal) -> Decimal:
    """Conversations until the compile has paid for itself; `NEVER` if a compiled conversation is not cheaper.

    `compiled` and `compared` are US dollars of a conversation with the compiled model and without.
    """
    saved = compared - compiled
    return compile_usd / saved if saved > 0 else NEVER


def format_usd(amount: Decimal) -> str:
    """`amount` for `Money` fields: at most six decimals, no exponent."""
    text = f"{amount:.6f}".rstrip("0").rstrip(".")
    return text or "0"


def usd_per_conversation(usd_per_hour: Decimal, seconds: float, conversations: float) -> Decimal | None:
    """Hardware cost per conversation in US dollars; `None` without conversations."""
    if conversations <= 0:
        return None
    return usd_per_hour * Decimal(str(seconds)) / Decimal(3600) / Decimal(str(conversations))
