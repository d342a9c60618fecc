"""The CompileRun of an agent."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from subterra_api.digest import run_digest, run_name
from subterra_api.job_contract.artifacts import STAGES
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CompileSource
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_operator.labels import AGENT_LABEL
from subterra_operator.resources import Object
from subterra_operator.specs.pod import new_object, owner_reference
from subterra_operator.specs.vllm_container import reply_arguments

NO_ORIGIN: Mapping[str, Any] = MappingProxyType({})


def inputs_of(source: CompileSource, procedure_digest: str) -> CompileInputs:
    """The inputs that determine the run's result, as the author wrote them."""
    template = {key: value for key, value in source.template.dump().items() if key != "execution"}
    reference = source.procedure_ref.dump()
    return CompileInputs.model_validate({**template, "procedureRef": reference, "procedureDigest": procedure_digest})


def run_name_for(agent: str, source: CompileSource, procedure_digest: str) -> str:
    """Name of the run with these inputs: equal inputs have one run."""
    return run_name(agent, run_digest(procedure_digest, inputs_of(source, procedure_digest)))


def compile_run(
    agent: Mapping[str, Any],
    spec: CompiledAgentSpec,
    source: CompileSource,
    procedure_digest: str,
    origin: Mapping[str, Any] = NO_ORIGIN,
) -> Object:
    """The run to apply. ``suspend`` is left out because it is patched separately.

    ``origin`` has the references and the attempt, which are decided when the run is created.
    """
    name, namespace = agent["metadata"]["name"], agent["metadata"]["namespace"]
    execution = source.template.execution.dump()
    execution.pop("suspend", None)
    for stage in STAGES:
        if settings := _without_empty(execution.pop(stage, {})):
            execution[stage] = settings
    execution["gate"] = spec.promotion.gate.dump()
    caps = {"maxUSD": spec.budget.max_usd_per_run, "maxUSDPer30Days": spec.budget.max_usd_per_30_days}
    execution |= {name: cap for name, cap in caps.items() if cap is not None}
    if arguments := reply_arguments(spec.serving.args):
        execution["servingArgs"] = arguments
    run = new_object("CompileRun", namespace, run_name_for(name, source, procedure_digest), {AGENT_LABEL: name})
    run["metadata"]["ownerReferences"] = [owner_reference(agent)]
    run["spec"] = {"inputs": inputs_of(source, procedure_digest).dump(), "execution": execution, **origin}
    return run


def _without_empty(value: Any) -> Any:
    """`value` without empty maps: where one had fields before, server-side apply stores null, which the schema refuses."""
    if not isinstance(value, Mapping):
        return value
    return {key: inner for key, item in value.items() if (inner := _without_empty(item)) != {}}
