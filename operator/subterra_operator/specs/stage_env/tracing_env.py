"""Environment of a stage whose work is traced."""

from subterra_api.job_contract.environment import COLLECTOR_VARIABLE, TRACED_CALLS_VARIABLE
from subterra_operator.resources import Object
from subterra_operator.settings import TracingSettings
from subterra_operator.specs.pod import env


def tracing_env(tracing: TracingSettings) -> list[Object]:
    """The environment variables; none without a collector."""
    if tracing.endpoint is None:
        return []
    calls = {TRACED_CALLS_VARIABLE: f"{tracing.call_ratio:g}"} if tracing.call_ratio < 1 else {}
    return env({COLLECTOR_VARIABLE: tracing.endpoint, **calls})
