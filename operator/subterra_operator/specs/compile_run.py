"""The CompileRuns of an agent: one compiles its procedure, others evaluate again what serves."""

from collections.abc import Mapping
from itertools import count
from types import MappingProxyType
from typing import Any

from subterra_api.digest import run_digest, run_name, sha256, short
from subterra_api.job_contract.artifacts import STAGES
from subterra_api.job_contract.defaults import evaluation_of, generation_of
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CompileSource, ReevaluationRequest
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_operator.labels import AGENT_LABEL
from subterra_operator.resources import Object
from subterra_operator.specs.pod import new_object, owner_reference
from subterra_operator.specs.vllm_container import reply_arguments

SEEDS = 2**31
"""Number of seeds that there are."""
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

    ``origin`` has what is decided when the run is created: the references and the attempt, of an existing run its inputs too.
    """
    name = agent["metadata"]["name"]
    inputs = inputs_of(source, procedure_digest).dump()
    return _owned_run(agent, run_name_for(name, source, procedure_digest), inputs, _execution(spec, source), origin)


def reevaluation_name(agent: str, run: str, at: str) -> str:
    """Name of the run that evaluates the model of ``run`` again: equal requests have one."""
    return run_name(agent, sha256(["reevaluation", run, at]))


def reevaluation_run(
    agent: Mapping[str, Any],
    spec: CompiledAgentSpec,
    source: CompileSource,
    request: ReevaluationRequest,
    origin: Mapping[str, Any],
) -> Object:
    """The run that evaluates the model of the run ``origin`` again, to apply, with the caps and the gate that the agent has now.

    The model alone plays: floors need neither baselines nor the version that it replaced.
    """
    made = CompileInputs.model_validate(origin["spec"]["inputs"])
    inputs = made.dump()
    evaluation = {name: value for name, value in inputs.get("evaluation", {}).items() if name != "baselines"}
    inputs["evaluation"] = evaluation | {"seed": fresh_seed(request.at, made)}
    return _owned_run(agent, request.run, inputs, _execution(spec, source), {"reevaluates": request.reevaluates})


def fresh_seed(at: str, inputs: CompileInputs) -> int:
    """A seed of scenarios that neither the run's evaluation nor its dataset has, decided by the time that was asked for."""
    taken = {evaluation_of(inputs.evaluation).seed, *generation_of(inputs.generation, inputs.base_model.kind).seeds}
    seed = int(short(sha256(["reevaluation", at])), 16) % SEEDS
    return next(each % SEEDS for each in count(seed) if each % SEEDS not in taken)


def _execution(spec: CompiledAgentSpec, source: CompileSource) -> Object:
    """What the agent says at present about how runs are executed."""
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
    return execution


def _owned_run(
    agent: Mapping[str, Any], name: str, inputs: Mapping[str, Any], execution: Object, origin: Mapping[str, Any]
) -> Object:
    metadata = agent["metadata"]
    run = new_object("CompileRun", metadata["namespace"], name, {AGENT_LABEL: metadata["name"]})
    run["metadata"]["ownerReferences"] = [owner_reference(agent)]
    run["spec"] = {"inputs": dict(inputs), "execution": execution, **origin}
    return run


def applied_to(run: Mapping[str, Any], wanted: Object) -> Object:
    """``wanted`` as it can be applied to the existing run: without maps that are empty now and have fields there.

    Of a map whose last field is no longer applied, server-side apply makes null, which the schema refuses; a map that is no longer
    applied itself is taken away.
    """
    return {**wanted, "spec": _without_emptied(wanted["spec"], run["spec"])}


def _without_emptied(wanted: Any, stored: Any) -> Any:
    if not isinstance(wanted, Mapping) or not isinstance(stored, Mapping):
        return wanted
    kept = {key: _without_emptied(value, stored.get(key)) for key, value in wanted.items()}
    return {key: value for key, value in kept.items() if value != {} or stored.get(key) == {}}


def _without_empty(value: Any) -> Any:
    """`value` without empty maps: where one had fields before, server-side apply stores null, which the schema refuses."""
    if not isinstance(value, Mapping):
        return value
    return {key: inner for key, item in value.items() if (inner := _without_empty(item)) != {}}
