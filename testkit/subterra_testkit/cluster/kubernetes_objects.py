"""Builders of Kubernetes objects for tests, with defaults: a test names only what it is about."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.artifacts import ArtifactKeys
from subterra_api.job_contract.defaults import evaluate_again, resolve
from subterra_api.job_contract.environment import EVALUATED_AGAIN_VARIABLE
from subterra_api.job_contract.messages import EvaluatedAgain, RunIdentity, RunInput, StageResult
from subterra_api.v1alpha1 import API_VERSION
from subterra_api.v1alpha1.compilerun import CompileInputs
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Interval, Proportion, SampleStats, Scores, Statistics
from subterra_operator.resources import Object
from subterra_operator.specs.run_input import input_config_map
from subterra_testkit.repository import ROOT
from subterra_testkit.yaml_reader import read_yaml

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CREATED = "2026-11-20T12:00:00Z"
"""`NOW` as Kubernetes writes it."""
NAMESPACE = "demo"
TRAVEL: Object = read_yaml((ROOT / "examples/travel/procedure.yaml").read_text())
TRAVEL_AGENT: Object = read_yaml((ROOT / "examples/travel/agent.yaml").read_text())
TRAVEL_SPEC = ProcedureSpec.model_validate(TRAVEL["spec"])
TRAVEL_DIGEST = procedure_digest(TRAVEL_SPEC)


def resource(
    kind: str, default_name: str, spec: Mapping[str, Any], status: Mapping[str, Any] | None = None, **metadata: Any
) -> Object:
    """A custom resource as the API server returns it."""
    defaults = {"name": default_name, "namespace": NAMESPACE, "uid": f"{kind}-{default_name}", "resourceVersion": "1"}
    obj: Object = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {**defaults, "generation": 1, "creationTimestamp": CREATED, **metadata},
        "spec": dict(spec),
    }
    return obj | ({"status": dict(status)} if status is not None else {})


def edited(system_prompt: str) -> Object:
    """The travel procedure as its author applies it, with another system prompt."""
    return {**TRAVEL, "spec": {**TRAVEL["spec"], "systemPrompt": system_prompt}}


def procedure(**changes: Any) -> Object:
    """The travel procedure, accepted."""
    accepted = {"type": "Accepted", "status": "True", "reason": "Valid", "lastTransitionTime": CREATED}
    status = {"observedGeneration": 1, "conditions": [accepted], "digest": TRAVEL_DIGEST}
    return resource("Procedure", "travel", {**TRAVEL["spec"], **changes}, status)


def run(status: Mapping[str, Any] | None = None, execution: Mapping[str, Any] | None = None, **metadata: Any) -> Object:
    """A run of the travel procedure."""
    spec = {"inputs": {"procedureRef": {"name": "travel"}, "procedureDigest": TRAVEL_DIGEST}, "execution": dict(execution or {})}
    labels = {"subterra.dev/agent": "travel", "app.kubernetes.io/managed-by": "subterra"}
    return resource("CompileRun", "travel-12345678", spec, status, **{"labels": labels, **metadata})


def paid_run() -> Object:
    """A run whose models need API keys: one provider for teacher, simulator and judge, another for the second judge."""
    paid, claude = run(), {"name": "anthropic", "model": "claude-sonnet-4-6"}
    paid["spec"]["inputs"]["generation"] = {"teacher": claude}
    paid["spec"]["inputs"]["evaluation"] = {
        "simulator": claude,
        "judge": claude,
        "secondJudge": {"name": "openai", "model": "gpt-4.1"},
    }
    return paid


def agent(status: Mapping[str, Any] | None = None, annotations: Mapping[str, str] | None = None, **spec: Any) -> Object:
    """An agent that compiles the travel procedure."""
    full_spec = {"compile": {"procedureRef": {"name": "travel"}}, **spec}
    return resource("CompiledAgent", "travel", full_spec, status, annotations=dict(annotations or {}))


def frozen(of: Object) -> Object:
    """The frozen input of a run, as the API server returns it."""
    inputs = CompileInputs.model_validate(of["spec"]["inputs"])
    identity = RunIdentity(name=of["metadata"]["name"], namespace=NAMESPACE, uid=of["metadata"]["uid"])
    return stored(input_config_map(of, resolve(inputs, TRAVEL_SPEC, TRAVEL_DIGEST, identity, store="file:///store")))


def keys_of_pod(spec: Object, config_map: Object) -> ArtifactKeys:
    """What a stage would make of its input and its environment: the keys of its run's artifacts."""
    environment = {item["name"]: item.get("value") for item in spec["containers"][0]["env"]}
    frozen = RunInput.model_validate_json(config_map["data"]["input.json"])
    change = environment.get(EVALUATED_AGAIN_VARIABLE)
    return (evaluate_again(frozen, EvaluatedAgain.model_validate_json(change)) if change else frozen).keys


def input_of_pod(spec: Object) -> str:
    """Name of the ConfigMap with a stage's input."""
    return next(str(volume["configMap"]["name"]) for volume in spec["volumes"] if volume["name"] == "input")


def stored(obj: Object, version: str = "7", **status: Any) -> Object:
    """A built object as the API server returns it."""
    assigned = {"uid": f"uid-{obj['metadata']['name']}", "resourceVersion": version, "generation": 1, "creationTimestamp": CREATED}
    metadata = {**assigned, **obj["metadata"]}
    return {**obj, "metadata": metadata, **({"status": status} if status else {})}


def pod_of(job: Object, **state: Any) -> Object:
    """The pod of a Job; ``state`` is that of its main container: ``terminated={…}``, ``running={}`` or ``waiting={…}``."""
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    metadata = {
        "name": f"{name}-abcde",
        "namespace": NAMESPACE,
        "uid": f"pod-{name}",
        "resourceVersion": "9",
        "creationTimestamp": CREATED,
        "labels": {**job["metadata"]["labels"], "batch.kubernetes.io/job-name": name},
        "ownerReferences": [{"kind": "Job", "uid": uid, "controller": True}],
    }
    status = {"phase": "Running", "containerStatuses": [{"name": "main", "state": state}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}


def ended(code: int = 0, message: str = "") -> Object:
    """The state of a terminated container."""
    return {"exitCode": code, "message": message, "finishedAt": CREATED}


def scores(mean: float = 4.6, failures: float = 0.02, scenarios: int = 200) -> Scores:
    """Scores with narrow intervals."""
    criteria = ("taskSuccess", "informationAccuracy", "consistency", "gracefulHandling", "naturalness")
    statistics = Statistics(
        criteria=dict.fromkeys(criteria, SampleStats(count=scenarios, mean=mean, sd=0.5)),
        failures=Proportion(hits=round(failures * scenarios), of=scenarios),
        conformance=Proportion(hits=round(0.97 * scenarios), of=scenarios),
    )
    return Scores(
        scenarios=scenarios,
        criteria={name: Interval(mean=mean, low=mean - 0.1, high=mean + 0.1) for name in criteria},
        failure_rate=Interval(mean=failures, low=max(0.0, failures - 0.01), high=failures + 0.01),
        conformance=Interval(mean=0.97, low=0.95, high=0.99),
        turns_per_conversation=6.5,
        fabrication=Proportion(hits=0, of=10 * scenarios),
        statistics=statistics,
    )


def result(stage: str, key: str, of: Scores | None = None) -> str:
    """The termination message of a successful stage."""
    kinds = {"generate": "datasets", "train": "models", "evaluate": "reports"}
    digest = "sha256:" + (stage[0].encode().hex() + key.removeprefix("sha256:"))[:64]
    path = f"{kinds[stage]}/{key.removeprefix('sha256:')[:32]}"
    stage_result = StageResult.model_validate(
        {"stage": stage, "key": key, "digest": digest, "path": path, "usd": "0", "message": f"{stage} is done", "scores": of}
    )
    return stage_result.model_dump_json(by_alias=True, exclude_none=True)
