"""Environment of a stage that calls paid models: caps, prices, endpoints, and keys by reference (only kubelet reads them)."""

import json
from collections.abc import Iterator

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.environment import (
    BUDGET_VARIABLE,
    ENDPOINTS_VARIABLE,
    JUDGING_VARIABLE,
    KEY_VARIABLES,
    PRICES_VARIABLE,
)
from subterra_api.job_contract.messages import Budget
from subterra_api.v1alpha1.base import SecretKeyReference
from subterra_api.v1alpha1.compilerun import CompileInputs, ExecutionSettings, Provider
from subterra_core.pricing import PRICE_TABLE, ModelPrice
from subterra_core.provider_rules import providers_called_by
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import env, secret_env


def provider_env(
    stage: Stage, inputs: CompileInputs, execution: ExecutionSettings, caps: Budget, settings: Settings
) -> list[Object]:
    """The environment variables of such a stage."""
    values = {BUDGET_VARIABLE: caps.model_dump_json(by_alias=True, exclude_none=True)}
    if settings.anthropic.base_url:
        values["ANTHROPIC_BASE_URL"] = settings.anthropic.base_url
    if settings.openai.endpoints:
        values[ENDPOINTS_VARIABLE] = json.dumps([endpoint.base_url for endpoint in settings.openai.endpoints])
    if stage == "evaluate" and execution.judging is not None and execution.judging.mode == "Batch":
        values[JUDGING_VARIABLE] = execution.judging.model_dump_json(by_alias=True)
    models = [provider for _, provider in providers_called_by(inputs, stage)]
    if prices := _prices(models, settings):
        values[PRICES_VARIABLE] = PRICE_TABLE.dump_json(prices, by_alias=True, exclude_none=True).decode()
    secrets = {name: api_key_secret(name, inputs, execution) for name in sorted({provider.name for provider in models})}
    return [*env(values), *(secret_env(KEY_VARIABLES[name], secret) for name, secret in secrets.items() if secret is not None)]


def api_key_secret(provider: str, inputs: CompileInputs, execution: ExecutionSettings) -> SecretKeyReference | None:
    """The Secret with a provider's key, if the run names one."""
    named: SecretKeyReference | None = getattr(execution.api_key_secrets, provider)
    return named or (execution.api_key_secret if inputs.generation.teacher.name == provider else None)


def unreachable_models(inputs: CompileInputs, execution: ExecutionSettings, settings: Settings) -> Iterator[str]:
    """Problems of models that the evaluation could not call. The generate stage checks its own models before it pays."""
    allowed = {endpoint.base_url for endpoint in settings.openai.endpoints}
    for field, provider in providers_called_by(inputs, "evaluate"):
        if provider.base_url is not None and provider.base_url not in allowed:
            text = f"{field}.baseURL: {provider.base_url} would receive the API key but is not an allowed endpoint"
            yield f"{text}; add it to openai.endpoints in the chart's values"
        elif api_key_secret(provider.name, inputs, execution) is None and not is_free(provider, settings):
            secret = f"execution.apiKeySecrets.{provider.name}"
            yield f"{field}: the provider {provider.name} needs an API key; name a Secret in {secret}"


def _prices(models: list[Provider], settings: Settings) -> dict[str, ModelPrice]:
    """The administrator's prices, and zero for models that are called only at free endpoints."""
    paid = {provider.model for provider in models if not is_free(provider, settings)}
    free = {provider.model for provider in models if provider.model and provider.model not in paid}
    return {**settings.prices, **dict.fromkeys(sorted(filter(None, free)), ModelPrice(input="0", output="0"))}


def is_free(provider: Provider, settings: Settings) -> bool:
    """Whether calls of this model cost nothing, because its endpoint is the administrator's own."""
    return any(endpoint.base_url == provider.base_url and endpoint.free for endpoint in settings.openai.endpoints)
