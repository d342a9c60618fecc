"""What a call costs by the tokens that the provider reports, and the most that it can cost. Pure."""

from dataclasses import dataclass
from decimal import Decimal

from subterra_core.hosted_models.catalog import LongPrompts
from subterra_core.pricing import MILLION, TokenPrice, call_cost
from subterra_jobs.llm.client import Usage

HOUR_FACTOR = 2
"""Price of a token written to the cache for an hour, relative to an input token (platform.claude.com, prompt caching)."""


@dataclass(frozen=True)
class Tariff:
    """A model's prices, and the surcharge on long prompts if it has one."""

    price: TokenPrice
    long_prompts: LongPrompts | None = None

    def cost(self, usage: Usage) -> Decimal:
        """Dollars of one call. Thinking is part of the output."""
        price = self._for(usage.sent)
        plain = call_cost(price, usage.input, usage.output, usage.cache_write, usage.cache_read)
        hour = price.input * HOUR_FACTOR * usage.cache_write_1h / MILLION
        return (plain + hour) * usage.price_factor

    def most(self, sent: int, output: int, *, cached_for_an_hour: bool = False) -> Decimal:
        """Upper bound for a prompt of at most `sent` tokens, all written to the cache, and a response of `output`."""
        price = self._for(sent)
        written = max(price.input, price.cache_write, price.input * HOUR_FACTOR * cached_for_an_hour)
        return call_cost(price, 0, output, cache_write=0) + written * sent / MILLION

    def _for(self, sent: int) -> TokenPrice:
        """The prices of a request whose prompt has `sent` tokens."""
        tier, price = self.long_prompts, self.price
        if tier is None or sent <= tier.above:
            return price
        written, read = (each * tier.input_factor for each in (price.cache_write, price.cache_read))
        return TokenPrice(price.input * tier.input_factor, price.output * tier.output_factor, written, read)
