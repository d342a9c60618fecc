"""A provider's account: model, key, price and address."""

import dataclasses
from dataclasses import dataclass

from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.model_retirements import retirement_of
from subterra_core.pricing import TokenPrice, UnknownModelError, price_of
from subterra_jobs.errors import InvalidInputError
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
    if not key and price.costs_money:
        raise InvalidInputError(f"{field}: provider {provider.name} needs a key; name a Secret in execution.apiKeySecrets")
    return Account(field, provider.name, provider.model, price, key, provider.base_url)


def make_client(account: Account) -> Client:
    """Client for the account's API; its SDK is imported only when it is needed."""
    if account.provider == "anthropic":
        from subterra_jobs.llm.anthropic_client import AnthropicClient

        return AnthropicClient(account.model, account.key)
    from subterra_jobs.llm.openai_client import OpenAIClient

    return OpenAIClient(account.model, account.key, account.base_url)
