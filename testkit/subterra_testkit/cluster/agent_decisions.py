"""Decisions about an agent, and the objects that they are about: its run, the version made of it, the Service."""

from datetime import timedelta
from typing import Any

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import CompileRunStatus
from subterra_operator.decide.agent.agent import decide_agent
from subterra_operator.decide.agent.candidate import target_of
from subterra_operator.decide.agent.drift import record
from subterra_operator.decide.decision import Decision
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot
from subterra_operator.specs.compile_run import compile_run
from subterra_operator.specs.deployment import deployment
from subterra_operator.specs.traffic.service import service
from subterra_testkit.cluster import kubernetes_objects as make

SETTINGS = Settings()
MODEL = "sha256:" + "a" * 64


def decide(agent: Object, later: float = 0, **parts: Any) -> Decision:
    """The decision about an agent `later` seconds after `NOW`; `parts` are those of its snapshot."""
    parts.setdefault("procedure", make.procedure())
    return decide_agent(AgentSnapshot(agent, **parts), SETTINGS, make.NOW + timedelta(seconds=later))


def wanted_run(agent: Object, verdict: str | None = "Pass", model: str = MODEL, **status: Any) -> Object:
    """The run that the agent wants, judged."""
    spec = CompiledAgentSpec.model_validate(agent["spec"])
    assert spec.compile
    run = make.stored(compile_run(agent, spec, spec.compile, make.TRAVEL_DIGEST))
    succeeded = {
        "type": "Succeeded",
        "status": "True" if verdict else "Unknown",
        "reason": "Succeeded" if verdict else "Running",
        "lastTransitionTime": "2026-11-20T12:00:00Z",
    }
    run["status"] = {"observedGeneration": 1, "conditions": [succeeded], "usd": "0", **status}
    if verdict:
        run["status"] |= {
            "verdict": {"result": verdict, "reasons": ["because"]},
            "scores": make.scores().dump(),
            "artifacts": {"model": model, "modelPath": "models/1", "report": "sha256:r"},
        }
    return run


def version(agent: Object, run: Object, ready: int = 1, **annotations: str) -> Object:
    """The Deployment of what a run made."""
    target = target_of(run, CompileRunStatus.model_validate(run["status"]))
    assert target
    built = deployment(agent, CompiledAgentSpec.model_validate(agent["spec"]), target, SETTINGS, make.NOW)
    built["metadata"]["annotations"] |= annotations
    counts: dict[str, Any] = dict.fromkeys(("readyReplicas", "availableReplicas", "updatedReplicas"), ready)
    return recorded(make.stored(built, observedGeneration=1, **counts))


def recorded(deployed: Object) -> Object:
    """A Deployment with the record of how it was made, if it gets one."""
    if not (written := record(deployed)):
        return deployed
    metadata = deployed["metadata"]
    annotations = {**metadata["annotations"], **written.object["metadata"]["annotations"]}
    return {**deployed, "metadata": {**metadata, "annotations": annotations}}


def traffic_to(agent: Object, deployed: Object) -> Object:
    """The Service of an agent whose traffic goes to a version."""
    return make.stored(service(agent, 8000, deployed["metadata"]["labels"]["subterra.dev/version"], make.NOW))


def other_run(agent: Object) -> Object:
    """A run of older inputs that passed."""
    run = wanted_run(agent, model="sha256:" + "b" * 64)
    run["metadata"] = run["metadata"] | {"name": "travel-older", "uid": "older"}
    return run


def kinds(decision: Decision) -> list[str]:
    """Verb and kind of every write, NetworkPolicies aside."""
    return [f"{write.verb} {write.key.kind}" for write in decision.writes if write.key.kind not in ("NetworkPolicy",)]
