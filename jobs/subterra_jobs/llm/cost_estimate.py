"""What calls will cost before any is made: the very requests are built, and only the models' own words are assumed. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.pricing import TokenPrice, UnknownModelError, call_cost, price_of
from subterra_jobs.llm.client import Request
from subterra_jobs.llm.prompt_cache import BYTES_PER_TOKEN, cache_minimum, tokens

Asked = tuple[Request, int]
"""A call, and the tokens of its answer."""


@dataclass(frozen=True)
class Assumed:
    """What nobody knows before models speak: tokens of their answers, and how much there is beside what must be."""

    turn: int
    """Of a turn of either side."""
    score: int
    """Of a judge's quotes, reason and level for one criterion."""
    step: int
    """Of what the labeller says of one turn."""
    exchanges: int
    """Questions back and the like: turns of both sides that a conversation has beyond its path."""
    again: Decimal
    """Share of the calls that are paid twice, since their answer is of no use or was lost."""
    cached: bool
    """Whether providers read from their caches what they can keep of a prompt."""

    @property
    def turn_length(self) -> int:
        """Characters of a turn."""
        return self.turn * BYTES_PER_TOKEN


# Writers, players and agents are told to say one to three sentences a turn, judges to give one to three quotes for each criterion,
# the labeller to name a second guess where it is not sure: LOW has the least of each, HIGH the most. 20 tokens are a sentence.
LOW = Assumed(turn=20, score=60, step=20, exchanges=0, again=Decimal(0), cached=True)
HIGH = Assumed(turn=60, score=120, step=35, exchanges=1, again=Decimal("0.1"), cached=False)
NUMBER = 8
"""Tokens of an answer that is the number of an option, in JSON or bare, or a mark that all is said."""


@dataclass(frozen=True)
class Bill:
    """Calls with their tokens and dollars. Input counts what is written to caches and read from them too."""

    calls: int = 0
    input: int = 0
    output: int = 0
    usd: Decimal = Decimal(0)

    def __add__(self, other: "Bill") -> "Bill":
        return Bill(self.calls + other.calls, self.input + other.input, self.output + other.output, self.usd + other.usd)

    def times(self, factor: Decimal) -> "Bill":
        """So many times as much."""
        calls, sent, said = (round(each * factor) for each in (self.calls, self.input, self.output))
        return Bill(calls, sent, said, self.usd * factor)


@dataclass(frozen=True)
class Part:
    """What one model is asked for, at least and at most."""

    name: str
    model: str
    low: Bill
    high: Bill

    def less(self, calls: int) -> "Part":
        """Without so many calls that are answered already."""
        left = Decimal(max(0, self.low.calls - calls)) / max(1, self.low.calls)
        return Part(self.name, self.model, self.low.times(left), self.high.times(left))


@dataclass(frozen=True)
class Forecast:
    """All that is paid."""

    parts: tuple[Part, ...] = ()

    @property
    def low(self) -> Bill:
        return sum((part.low for part in self.parts), Bill())

    @property
    def high(self) -> Bill:
        return sum((part.high for part in self.parts), Bill())

    def __str__(self) -> str:
        """Such as ``$57 to $131``."""
        return span(self.low.usd, self.high.usd)


@dataclass(frozen=True)
class Model:
    """A provider's model with its price."""

    provider: Provider
    price: TokenPrice

    @property
    def name(self) -> str:
        return self.provider.model or self.provider.name


def model_of(provider: Provider, field: str, prices: Mapping[str, TokenPrice]) -> Model:
    """Raises UnknownModelError that names the field."""
    try:
        return Model(provider, price_of(provider.model or "", prices))
    except UnknownModelError as error:
        raise UnknownModelError(f"{field}.model: {error}") from None


def bill(model: Model, calls: Iterable[Asked], assumed: Assumed) -> Bill:
    """What these calls cost. A constant part that the provider keeps is written once and then read: evaluations are at it all the
    time, and caches forget after five idle minutes.
    """
    least, kept, total = cache_minimum(model.provider.name, model.name), set[str](), Bill()
    for request, said in calls:
        whole, constant = tokens(request.size), length(request.system)
        cached = constant if assumed.cached and constant >= least else 0
        write, read = (0, cached) if request.system in kept else (cached, 0)
        kept.add(request.system)
        total += Bill(1, whole, said, call_cost(model.price, whole - cached, said, write, read))
    return total.times(1 + assumed.again)


def part(name: str, model: Model, calls: Callable[[Assumed], Iterable[Asked]], factor: Decimal = Decimal(1)) -> Part:
    """A part of a forecast, ``factor`` times what these calls cost."""
    low, high = (bill(model, calls(assumed), assumed).times(factor) for assumed in (LOW, HIGH))
    return Part(name, model.name, low, high)


def length(text: str) -> int:
    """Tokens of such words."""
    return tokens(len(text.encode()))


def span(low: Decimal, high: Decimal) -> str:
    """Dollars from least to most."""
    digits = 2 if low < 10 else 0
    return f"${low:,.{digits}f} to ${high:,.{digits}f}"
