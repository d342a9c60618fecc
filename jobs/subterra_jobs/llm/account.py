"""Whom to call, with which key and at which price."""

import json
import os
from dataclasses import dataclass

from subterra_api.job_contract.environment import ENDPOINTS_VARIABLE, KEY_VARIABLES, PRICES_VARIABLE
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.pricing import TokenPrice, UnknownModelError, price_of, prices_from
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.llm.client import Client


@dataclass(frozen=True)
class Account:
    """What calling a provider needs. ``field`` is where the run names it, for messages."""

    field: str
    provider: str
    model: str
    price: TokenPrice
    key: str
    base_url: str | None = None
    """Where the model is, when it is not at the provider's own address."""


def account_of(provider: Provider, field: str) -> Account:
    """Checked before anything starts. Raises InvalidInputError with the cure."""
    assert provider.model, "the API asks for it"
    try:
        price = price_of(provider.model, prices_from(os.environ.get(PRICES_VARIABLE, "")))
    except UnknownModelError as error:
        raise InvalidInputError(f"{field}.model: {error}") from None
    if provider.base_url and provider.base_url not in json.loads(os.environ.get(ENDPOINTS_VARIABLE, "[]")):
        raise InvalidInputError(
            f"{field}.baseURL: {provider.base_url} is no endpoint that this cluster's administrator allows, and it would "
            "receive the key; add it to openai.endpoints of the chart's values"
        )
    key = os.environ.get(KEY_VARIABLES[provider.name], "")
    if not key and price.paid:
        raise InvalidInputError(f"{field}: the provider {provider.name} needs a key; name a Secret in execution.apiKeySecrets")
    return Account(field, provider.name, provider.model, price, key, provider.base_url)


def client_of(account: Account) -> Client:
    """The provider's client; its SDK is imported only where it is needed."""
    if account.provider == "anthropic":
        from subterra_jobs.llm.anthropic_client import AnthropicClient

        return AnthropicClient(account.model, account.key)
    from subterra_jobs.llm.openai_client import OpenAIClient

    return OpenAIClient(account.model, account.key, account.base_url)
