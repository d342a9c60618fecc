"""What an agent's conversations cost, next to what they would cost otherwise. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from subterra_api.job_contract.messages import ServedWork
from subterra_api.v1alpha1.scores import Scores
from subterra_core.hosted_models.catalog import model_named
from subterra_core.pricing import TokenPrice, break_even
from subterra_core.serving_costs.comparators import Comparator, Workload, in_context, orchestrated
from subterra_core.serving_costs.serving_price import busy_price, measured_token_price, price_with_idle

OWN_TOKENS_PER_WORD = Decimal("1.35")
"""Of the compiled model, roughly: small open models have vocabularies of about 150,000 tokens."""
SELF = "self"
"""Name of the compiled model itself as a comparator."""


@dataclass(frozen=True)
class Compared:
    """A conversation's price with a comparator."""

    comparator: Comparator
    model: str
    usd: Decimal


@dataclass(frozen=True)
class ConversationCosts:
    """Prices in US dollars of one version of an agent."""

    work: ServedWork
    usd_per_hour: Decimal
    compile_usd: Decimal | None = None
    """What the compile run paid to providers."""
    compared: tuple[Compared, ...] = ()

    @property
    def busy(self) -> Decimal | None:
        """A conversation, counting busy time only."""
        return busy_price(self.work, self.usd_per_hour)

    @property
    def with_idle(self) -> Decimal | None:
        """A conversation, counting all hours."""
        return price_with_idle(self.work, self.usd_per_hour)

    @property
    def token_price(self) -> TokenPrice | None:
        """A million tokens read, and written."""
        return measured_token_price(self.work, self.usd_per_hour)

    def break_even(self, against: Compared) -> Decimal | None:
        """Conversations until the compile has paid for itself, idle hours included; `None` while a price is missing."""
        if self.compile_usd is None or self.with_idle is None:
            return None
        return break_even(self.compile_usd, self.with_idle, against.usd)


def workload_of(scores: Scores, model: str | None = None) -> Workload | None:
    """The mean conversation of an evaluation, in the tokens of a hosted `model`; `None` if its tokens were not counted."""
    tokens = scores.tokens
    if tokens is None:
        return None
    known = model_named(model) if model else None
    return Workload(
        turns=Decimal(str(scores.turns_per_conversation)),
        prompt_tokens=Decimal(str(tokens.prompt)),
        completion_tokens=Decimal(str(tokens.completion)),
        procedure_tokens=Decimal(str(tokens.procedure)),
        tokens_factor=known.tokens_per_word / OWN_TOKENS_PER_WORD if known else Decimal(1),
    )


def compare_hosted(scores: Scores, model: str, price: TokenPrice) -> Iterator[Compared]:
    """Prices of an evaluation's mean conversation with a hosted `model`."""
    hosted, tokens = workload_of(scores, model), scores.tokens
    if hosted is None or tokens is None:
        return
    yield Compared("InContext", model, in_context(price, hosted))
    yield Compared("InContextCached", model, in_context(price, hosted, cached=True))
    yield Compared("Orchestrator", model, orchestrated(price, hosted, Decimal(str(tokens.hubs)), Decimal(tokens.nodes)))


def compare_own(workload: Workload | None, own_price: TokenPrice | None) -> Iterator[Compared]:
    """The price of the mean conversation in context with the compiled model itself, once that price has been measured."""
    if workload is not None and own_price is not None:
        yield Compared("SameModelInContext", SELF, in_context(own_price, workload))
