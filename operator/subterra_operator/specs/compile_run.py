"""The CompileRun that an agent wants."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from subterra_api.digest import run_digest, run_name
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CompileSource
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_operator.labels import AGENT_LABEL
from subterra_operator.resources import Object
from subterra_operator.specs.pod import base, owner

NEW: Mapping[str, Any] = MappingProxyType({})


def inputs_of(source: CompileSource, procedure_digest: str) -> CompileInputs:
    """What the run's result depends on, as the author wrote it."""
    template = {key: value for key, value in source.template.dump().items() if key != "execution"}
    reference = source.procedure_ref.dump()
    return CompileInputs.model_validate({**template, "procedureRef": reference, "procedureDigest": procedure_digest})


def wanted_name(agent: str, source: CompileSource, procedure_digest: str) -> str:
    """The run's name: the same inputs are the same run."""
    return run_name(agent, run_digest(procedure_digest, inputs_of(source, procedure_digest)))


def compile_run(
    agent: Mapping[str, Any], spec: CompiledAgentSpec, source: CompileSource, procedure_digest: str, origin: Mapping[str, Any] = NEW
) -> Object:
    """The run. `suspend` is left out: it is set and cleared by itself, whatever the rest says.

    ``origin`` has what was decided when the run was made: its references and its attempt.
    """
    name, namespace = agent["metadata"]["name"], agent["metadata"]["namespace"]
    execution = source.template.execution.dump()
    execution.pop("suspend", None)
    execution["gate"] = spec.promotion.gate.dump()
    caps = {"maxUSD": spec.budget.max_usd_per_run, "maxUSDPer30Days": spec.budget.max_usd_per_30_days}
    execution |= {name: cap for name, cap in caps.items() if cap is not None}
    run = base("CompileRun", namespace, wanted_name(name, source, procedure_digest), {AGENT_LABEL: name})
    run["metadata"]["ownerReferences"] = [owner(agent)]
    run["spec"] = {"inputs": inputs_of(source, procedure_digest).dump(), "execution": execution, **origin}
    return run
