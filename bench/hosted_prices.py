"""What a travel conversation costs with a hosted model in context, and when compiling pays. Arithmetic; nothing is called.

Tokens follow from the paper (arXiv 2605.22502): in context with Claude Sonnet 4.5, without a cache, travel costs 128 times its
compiled price of $0.0010. Run it with `make bench-hosted-prices`.
"""

import sys
from dataclasses import dataclass
from decimal import Decimal

from subterra_core.hosted_models.catalog import HostedModel, model_named
from subterra_core.pricing import NEVER, break_even, call_cost, price_of

COMPILED = Decimal("0.0010")
"""Dollars a conversation of the compiled travel model, as the paper has it."""
HALF_IDLE = 2 * COMPILED
"""The same on hardware that is idle half of the time."""
COMPILE = Decimal(60)
"""Dollars of one compile, the middle of the paper's 50 to 80."""
PAPERS_RATIO = 128
OUTPUT_TOKENS = 1000
"""Of a conversation."""
CACHED_SHARE = Decimal("0.85")
"""Of input tokens that are read from the cache: all but the newest turn of each call."""
PAPERS_MODEL = "claude-sonnet-4-5"


@dataclass(frozen=True)
class Row:
    """A hosted model's price of one conversation."""

    model: str
    cached: bool
    usd: Decimal

    @property
    def ratio(self) -> Decimal:
        """How many times the compiled price it is."""
        return self.usd / COMPILED

    def __str__(self) -> str:
        """A row of the table in the guide."""
        ratio = f"{self.ratio:.0f}" if self.ratio >= 10 else f"{self.ratio:.1f}"
        ends = (_conversations(break_even(COMPILE, compiled, self.usd)) for compiled in (COMPILED, HALF_IDLE))
        return f"| {self.model} | {'85 %' if self.cached else 'none'} | ${self.usd:.4f} | {ratio} × | {' | '.join(ends)} |"


def _conversations(after: Decimal) -> str:
    return "never" if after == NEVER else f"{after:,.0f}"


def input_tokens() -> Decimal:
    """Input tokens of a conversation as the paper's model counts them."""
    price = price_of(PAPERS_MODEL)
    return (COMPILED * PAPERS_RATIO * 1_000_000 - OUTPUT_TOKENS * price.output) / price.input


def row(name: str, *, cached: bool) -> Row:
    """The price with a model's own tokens and prices."""
    model, papers = _model(name), _model(PAPERS_MODEL)
    finer = model.tokens_per_word / papers.tokens_per_word
    sent, received = round(input_tokens() * finer), round(OUTPUT_TOKENS * finer)
    read = round(sent * CACHED_SHARE) if cached else 0
    return Row(name, cached, call_cost(price_of(name), sent - read, received, cache_read=read))


def _model(name: str) -> HostedModel:
    model = model_named(name)
    assert model is not None
    return model


ROWS = (
    (PAPERS_MODEL, False),
    (PAPERS_MODEL, True),
    ("claude-sonnet-5-5", True),
    ("claude-haiku-5-5", True),
    ("gpt-6-luna", True),
)


def lines() -> list[str]:
    """The table."""
    return [str(row(name, cached=cached)) for name, cached in ROWS]


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
