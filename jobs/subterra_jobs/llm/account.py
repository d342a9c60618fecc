"""A provider's account: model, key, price and address."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.hosted_models.catalog import LongPrompts
from subterra_core.model_retirements import retirement_of
from subterra_core.pricing import TokenPrice, UnknownModelError, price_of
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.llm.behavior.bills import Tariff
from subterra_jobs.llm.behavior.thinking import (
    NO_THINKING,
    EffortError,
    Thinking,
    batch_factor_of,
    long_prompts_of,
    thinking_of,
)
from subterra_jobs.llm.client import Client
from subterra_jobs.stage.environment import StageEnvironment


@dataclass(frozen=True)
class Account:
    """What calls to a provider need."""

    field: str
    """Field of the run that names the provider, for messages."""
    provider: str
    model: str
    price: TokenPrice
    key: str = dataclasses.field(repr=False)
    base_url: str | None = None
    """Address of the model, when it is not the provider's own."""
    thinking: Thinking = NO_THINKING
    extra_body: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further fields of each request."""
    long_prompts: LongPrompts | None = None
    batch_factor: Decimal = Decimal(1)
    """Price of its calls in batches relative to single ones; 1 where there are none."""

    @property
    def tariff(self) -> Tariff:
        """What its calls cost."""
        return Tariff(self.price, self.long_prompts)


def resolve_account(provider: Provider, field: str, environment: StageEnvironment) -> Account:
    """The account that calls `provider`, checked before the first call. Raises InvalidInputError that names the fix."""
    assert provider.model, "the API asks for it"
    if (retired := retirement_of(provider, environment.today)) is not None and retired.is_over:
        raise InvalidInputError(f"{field}.model: {retired.message}")
    try:
        price = price_of(provider.model, environment.prices)
    except UnknownModelError as error:
        raise InvalidInputError(f"{field}.model: {error}") from None
    if provider.base_url and provider.base_url not in environment.endpoints:
        raise InvalidInputError(
            f"{field}.baseURL: {provider.base_url} is not an endpoint that the cluster's administrator allows, and it would "
            "receive the key; add it to openai.endpoints of the chart's values"
        )
    key = environment.keys.get(provider.name, "")
    if problem := _key_problem(key, provider.name, needed=price.costs_money):
        raise InvalidInputError(f"{field}: {problem}")
    try:
        thinking = thinking_of(provider)
    except EffortError as error:
        raise InvalidInputError(f"{field}.effort: {error}") from None
    return Account(
        field,
        provider.name,
        provider.model,
        price,
        key,
        provider.base_url,
        thinking,
        provider.extra_body or {},
        long_prompts_of(provider),
        batch_factor_of(provider),
    )


def _key_problem(key: str, provider: str, *, needed: bool) -> str | None:
    """Why requests cannot be sent with this key, and the fix; `None` if they can."""
    if not key and needed:
        return f"provider {provider} needs a key; name a Secret in execution.apiKeySecrets"
    if not (key.isascii() and key.isprintable() and " " not in key):
        return (
            f"the key of provider {provider} has spaces or characters that no request can carry; correct the Secret "
            "in execution.apiKeySecrets"
        )
    return None


def make_client(account: Account) -> Client:
    """Client for the account's API; its SDK is imported only when it is needed."""
    if account.provider == "anthropic":
        from subterra_jobs.llm.anthropic_client import AnthropicClient

        return AnthropicClient(account.model, account.key, account.thinking)
    from subterra_jobs.llm.openai_client import OpenAIClient

    return OpenAIClient(account.model, account.key, account.base_url, account.thinking.effort, account.extra_body)
