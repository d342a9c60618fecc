"""What a stage that pays is told: caps, prices, endpoints, and keys by reference, so that only kubelet ever reads them."""

import json
from collections.abc import Iterator

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.environment import BUDGET_VARIABLE, ENDPOINTS_VARIABLE, KEY_VARIABLES, PRICES_VARIABLE
from subterra_api.job_contract.messages import Budget
from subterra_api.v1alpha1.base import SecretKeyReference
from subterra_api.v1alpha1.compilerun import CompileInputs, ExecutionSettings, Provider
from subterra_core.pricing import PRICE_TABLE, ModelPrice
from subterra_core.provider_rules import called
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import env


def provider_env(stage: Stage, inputs: CompileInputs, execution: ExecutionSettings, settings: Settings) -> list[Object]:
    """The environment of a stage that pays."""
    caps = Budget(max_usd=execution.max_usd, max_usd_per_30_days=execution.max_usd_per_30_days)
    values = {BUDGET_VARIABLE: caps.model_dump_json(by_alias=True, exclude_none=True)}
    if settings.anthropic.base_url:
        values["ANTHROPIC_BASE_URL"] = settings.anthropic.base_url
    if settings.openai.endpoints:
        values[ENDPOINTS_VARIABLE] = json.dumps([endpoint.base_url for endpoint in settings.openai.endpoints])
    models = [provider for _, provider in called(inputs, stage)]
    if prices := _prices(models, settings):
        values[PRICES_VARIABLE] = PRICE_TABLE.dump_json(prices, by_alias=True, exclude_none=True).decode()
    secrets = {name: key_of(name, inputs, execution) for name in sorted({provider.name for provider in models})}
    keys = [{"name": KEY_VARIABLES[name], "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}
            for name, secret in secrets.items() if secret is not None]  # fmt: skip
    return [*env(values), *keys]


def key_of(provider: str, inputs: CompileInputs, execution: ExecutionSettings) -> SecretKeyReference | None:
    """Where a provider's key is, if the run says."""
    named: SecretKeyReference | None = getattr(execution.api_key_secrets, provider)
    return named or (execution.api_key_secret if inputs.generation.teacher.name == provider else None)


def unreachable(inputs: CompileInputs, execution: ExecutionSettings, settings: Settings) -> Iterator[str]:
    """Models of the evaluation that its Job could not call. Those of generate tell it themselves, before anything is paid."""
    allowed = {endpoint.base_url for endpoint in settings.openai.endpoints}
    for field, provider in called(inputs, "evaluate"):
        if provider.base_url is not None and provider.base_url not in allowed:
            told = f"{field}.baseURL: {provider.base_url} is no endpoint that this cluster's administrator allows"
            yield f"{told}, and it would receive the key; add it to openai.endpoints of the chart's values"
        elif key_of(provider.name, inputs, execution) is None and not _free(provider, settings):
            yield f"{field}: the provider {provider.name} needs a key; name a Secret in execution.apiKeySecrets.{provider.name}"


def _prices(models: list[Provider], settings: Settings) -> dict[str, ModelPrice]:
    """The administrator's prices; nothing for models of free endpoints, unless the same name is paid for elsewhere."""
    paid = {provider.model for provider in models if not _free(provider, settings)}
    free = {provider.model for provider in models if provider.model and provider.model not in paid}
    return {**settings.prices, **dict.fromkeys(sorted(filter(None, free)), ModelPrice(input="0", output="0"))}


def _free(provider: Provider, settings: Settings) -> bool:
    return any(endpoint.base_url == provider.base_url and endpoint.free for endpoint in settings.openai.endpoints)
