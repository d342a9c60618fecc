"""Cost of calls before any is made: the requests are built as they will be sent, and only responses are assumed. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property

from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.hosted_models.catalog import model_named
from subterra_core.pricing import TokenPrice, UnknownModelError, call_cost, price_of
from subterra_jobs.llm.behavior.prompt_cache import BYTES_PER_TOKEN, cache_minimum, estimated_tokens
from subterra_jobs.llm.behavior.thinking import DEFAULT_EFFORT, sent_effort, thinks_unasked
from subterra_jobs.llm.client import Request

PlannedCall = tuple[Request, int]
"""A request, and the tokens of its response."""


@dataclass(frozen=True)
class OutputAssumptions:
    """What is unknown before models respond: lengths of responses, and calls beyond the necessary ones."""

    turn_tokens: int
    """Of a turn of either side."""
    score_tokens: int
    """Of a judge's quotes, reason and level for one criterion."""
    label_tokens: int
    """Of the labeller's output for one turn."""
    extra_exchanges: int
    """Turns of both sides beyond a conversation's path, such as clarifications."""
    retry_share: Decimal
    """Share of calls that are paid twice, because their response is unusable or was lost."""
    cached: bool
    """True if providers read the constant part of prompts from their caches."""
    thinking: Mapping[str, int]
    """Tokens of thinking before each response, by effort."""

    @property
    def turn_length(self) -> int:
        """Characters of a turn."""
        return self.turn_tokens * BYTES_PER_TOKEN


# Writers, simulators and agents are instructed to write one to three sentences a turn, judges to give one to three quotes for each
# criterion, the labeller to name a second guess where it is not sure: LOW has the least of each, HIGH the most. A sentence has
# about 20 tokens.
# No provider publishes how much its models think. Where single calls at low effort think 300 to 2,000 tokens, the mean over many
# is assumed to be 400 to 1,700; each step of effort about doubles that.
_LEAST_THINKING = {"none": 0, "minimal": 200, "low": 400, "medium": 800, "high": 1_600, "xhigh": 3_200, "max": 6_400}
_MOST_THINKING = {"none": 0, "minimal": 850, "low": 1_700, "medium": 3_400, "high": 6_800, "xhigh": 13_600, "max": 27_200}
LOW = OutputAssumptions(
    turn_tokens=20,
    score_tokens=60,
    label_tokens=20,
    extra_exchanges=0,
    retry_share=Decimal(0),
    cached=True,
    thinking=_LEAST_THINKING,
)
HIGH = OutputAssumptions(
    turn_tokens=60,
    score_tokens=120,
    label_tokens=35,
    extra_exchanges=1,
    retry_share=Decimal("0.1"),
    cached=False,
    thinking=_MOST_THINKING,
)
_TOKENS_PER_WORD = Decimal("1.35")
"""Of English at `BYTES_PER_TOKEN`; models with finer tokens bill more of them for the same text."""
CHOICE_TOKENS = 8
"""Tokens of a response that is the number of an option, in JSON or bare, or an end marker."""


@dataclass(frozen=True)
class Cost:
    """Calls with their tokens and dollars. `input` includes tokens written to and read from caches."""

    calls: int = 0
    input: int = 0
    output: int = 0
    usd: Decimal = Decimal(0)

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.calls + other.calls, self.input + other.input, self.output + other.output, self.usd + other.usd)

    def scaled(self, factor: Decimal) -> "Cost":
        """All amounts times `factor`."""
        calls, sent, received = (round(amount * factor) for amount in (self.calls, self.input, self.output))
        return Cost(calls, sent, received, self.usd * factor)

    def at_price(self, factor: Decimal) -> "Cost":
        """The same calls at another price."""
        return replace(self, usd=self.usd * factor)


@dataclass(frozen=True)
class CostItem:
    """Lowest and highest cost of one model for one purpose."""

    name: str
    model: str
    low: Cost
    high: Cost
    effort: str = "none"
    """How much the model is assumed to think."""
    batch_factor: Decimal = Decimal(1)
    """Price of the calls relative to single ones, if they are made in batches; already part of the cost."""

    def in_batches(self, factor: Decimal) -> "CostItem":
        """The item at the price of batches."""
        return replace(self, low=self.low.at_price(factor), high=self.high.at_price(factor), batch_factor=factor)

    def minus_cached(self, calls: int) -> "CostItem":
        """The item without `calls` that are already answered."""
        left = Decimal(max(0, self.low.calls - calls)) / max(1, self.low.calls)
        return replace(self, low=self.low.scaled(left), high=self.high.scaled(left))


@dataclass(frozen=True)
class CostEstimate:
    """Cost of a stage, item by item."""

    parts: tuple[CostItem, ...] = ()

    @property
    def low(self) -> Cost:
        return sum((item.low for item in self.parts), Cost())

    @property
    def high(self) -> Cost:
        return sum((item.high for item in self.parts), Cost())

    @property
    def in_batches(self) -> tuple[CostItem, ...]:
        """Items whose calls are cheaper because they are made in batches."""
        return tuple(item for item in self.parts if item.batch_factor < 1)

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What is assumed of each model that thinks."""
        thinking = dict.fromkeys((item.model, item.effort) for item in self.parts if HIGH.thinking[item.effort])
        return tuple(
            f"{model} is assumed to think {LOW.thinking[effort]:,} to {HIGH.thinking[effort]:,} tokens before a response "
            f"on average (effort {effort})"
            for model, effort in thinking
        )

    def __str__(self) -> str:
        """Such as `$57 to $131`."""
        return usd_range(self.low.usd, self.high.usd)


@dataclass(frozen=True)
class PricedModel:
    """A provider's model with its price."""

    provider: Provider
    price: TokenPrice

    @property
    def name(self) -> str:
        return self.provider.model or self.provider.name

    @property
    def effort(self) -> str:
        """The effort of its calls; `none` for a model that does not think."""
        sent = sent_effort(self.provider)
        if sent is not None:
            return sent
        return DEFAULT_EFFORT if thinks_unasked(self.provider) else "none"

    def billed(self, tokens: int) -> int:
        """What the model counts where `BYTES_PER_TOKEN` gives `tokens`."""
        per_word = self._tokens_per_word
        return tokens if per_word is None else round(tokens * per_word / _TOKENS_PER_WORD)

    @cached_property
    def _tokens_per_word(self) -> Decimal | None:
        known = model_named(self.name)
        return known.tokens_per_word if known else None


def priced_model(provider: Provider, field: str, prices: Mapping[str, TokenPrice]) -> PricedModel:
    """The provider's model with its price. Raises UnknownModelError that names `field`."""
    try:
        return PricedModel(provider, price_of(provider.model or "", prices))
    except UnknownModelError as error:
        raise UnknownModelError(f"{field}.model: {error}") from None


def cost_of(model: PricedModel, calls: Iterable[PlannedCall], assumed: OutputAssumptions) -> Cost:
    """Cost of calls. A constant part that the provider caches is written once and then read: a stage calls all the time, and
    caches expire after five idle minutes.
    """
    minimum, thinking = cache_minimum(model.provider.name, model.name), assumed.thinking[model.effort]
    cached: dict[str, int] = {}
    made = sent = received = read = 0
    for request, assumed_output in calls:
        made += 1
        sent += model.billed(estimated_tokens(request.size))
        received += thinking + model.billed(assumed_output)
        if request.system in cached:
            read += cached[request.system]
        else:
            constant = model.billed(text_tokens(request.system))
            cached[request.system] = constant if assumed.cached and constant >= minimum else 0
    written = sum(cached.values())
    usd = call_cost(model.price, sent - written - read, received, written, read)
    return Cost(made, sent, received, usd).scaled(1 + assumed.retry_share)


def cost_item(
    name: str, model: PricedModel, calls: Callable[[OutputAssumptions], Iterable[PlannedCall]], factor: Decimal = Decimal(1)
) -> CostItem:
    """An item of an estimate: `factor` times the cost of these calls."""
    low, high = (cost_of(model, calls(assumed), assumed).scaled(factor) for assumed in (LOW, HIGH))
    return CostItem(name, model.name, low, high, model.effort)


def text_tokens(text: str) -> int:
    """Approximate tokens of a text."""
    return estimated_tokens(len(text.encode()))


def usd_range(low: Decimal, high: Decimal) -> str:
    """Such as `$57 to $131`."""
    digits = 2 if low < 10 else 0
    return f"${low:,.{digits}f} to ${high:,.{digits}f}"
