"""Environment of a training whose base model is on a hub: its address, and a token by reference (only kubelet reads it)."""

from subterra_api.job_contract.environment import HUB_ENDPOINT_VARIABLE, HUB_TOKEN_VARIABLE
from subterra_api.v1alpha1.compilerun import HUB_SCHEME, CompileInputs, ExecutionSettings
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import env, secret_env


def hub_env(inputs: CompileInputs, execution: ExecutionSettings, settings: Settings) -> list[Object]:
    """The environment variables; none for a base model from elsewhere."""
    if not inputs.base_model.uri.startswith(HUB_SCHEME):
        return []
    values = env({HUB_ENDPOINT_VARIABLE: settings.hub.endpoint} if settings.hub.endpoint else {})
    secret = execution.hub_token_secret
    if secret is None:
        return values
    return [*values, secret_env(HUB_TOKEN_VARIABLE, secret)]
