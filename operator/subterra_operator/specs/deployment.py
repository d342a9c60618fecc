"""One version of a served agent (Deployment), and the Service that sends traffic to one of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from subterra_api.digest import meaning, sha256, short
from subterra_api.job_contract.environment import EXPORTER_PORT, VLLM_PORT, VLLM_VARIABLE
from subterra_api.v1alpha1.compiledagent import AgentVersion, CompiledAgentSpec, ServingSettings
from subterra_api.v1alpha1.conditions import timestamp
from subterra_operator.labels import (
    AGENT_LABEL,
    COMPONENT_LABEL,
    MANAGED_BY,
    MANAGER,
    MODEL_DIGEST,
    MODEL_PATH,
    RUN,
    SERVING_SINCE,
    STARTED_AT,
    VERSION_LABEL,
    annotations,
    labels,
)
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import HOME, base, container, env, mounts, owner, pod_spec, resources, volumes
from subterra_operator.specs.vllm_container import DRAIN_SECONDS, Model, drain_command, vllm_container


@dataclass(frozen=True)
class Target:
    """A model that should be served."""

    model: Model
    digest: str
    run: str | None = None
    turns: float | None = None
    """Mean number of agent turns in a conversation; without it the exporter takes each reply for a conversation."""
    verify: bool = False
    """Whether the bytes are checked against the digest before vLLM loads them."""


def version_of(target: Target, serving: ServingSettings) -> str:
    """Short digest of model and serving template. Replicas and port are no part: changing them is no new version."""
    template = {key: value for key, value in meaning(serving).items() if key not in ("replicas", "port")}
    return short(sha256([target.digest, target.model.path, template]))


def deployment_name(agent: str, version: str) -> str:
    """``<agent>-<version>``."""
    return f"{agent}-{version}"


def deployment(agent: Mapping[str, Any], spec: CompiledAgentSpec, target: Target, settings: Settings, now: datetime) -> Object:
    """The version's Deployment. Create-only but for replicas: an operator upgrade restarts no pod."""
    name, version = agent["metadata"]["name"], version_of(target, spec.serving)
    marks = {AGENT_LABEL: name, VERSION_LABEL: version, COMPONENT_LABEL: "serving"}
    notes = {MODEL_DIGEST: target.digest, MODEL_PATH: target.model.path, STARTED_AT: timestamp(now)}
    if target.run:
        notes[RUN] = target.run
    result = base("Deployment", agent["metadata"]["namespace"], deployment_name(name, version), marks, notes)
    result["metadata"]["ownerReferences"] = [owner(agent)]
    result["spec"] = {
        "replicas": spec.serving.replicas,
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": spec.promotion.progress_deadline_seconds,
        "selector": {"matchLabels": {AGENT_LABEL: name, VERSION_LABEL: version}},
        "template": {"metadata": {"labels": {MANAGED_BY: MANAGER, **marks}}, "spec": _pod(spec, target, settings)},
    }
    return result


def _pod(spec: CompiledAgentSpec, target: Target, settings: Settings) -> Object:
    serving = spec.serving
    before = [_verify(target, settings)] if target.verify else []
    sidecars = [*before, _exporter(spec, target, settings)]
    drained = {"lifecycle": {"preStop": {"exec": {"command": drain_command()}}}}
    containers = [vllm_container(settings, target.model, serving.args, serving.resources, drained)]
    pod = pod_spec(settings, containers, sidecars, volumes(settings, "1Gi"), serving.node_selector, serving.tolerations)
    return pod | {"terminationGracePeriodSeconds": DRAIN_SECONDS + 30}


def _verify(target: Target, settings: Settings) -> Object:
    return container("verify", settings.jobs_image, settings, {
        "command": ["python", "-m", "subterra_jobs.store.verify", target.model.path, target.digest],
        "env": env(HOME),
        "resources": resources(settings.resources.exporter, settings.resources.exporter),
        "volumeMounts": mounts(read_only=True),
    })  # fmt: skip


def _exporter(spec: CompiledAgentSpec, target: Target, settings: Settings) -> Object:
    """A native sidecar: it is there before vLLM counts its first token and after it counts its last."""
    values = {
        **HOME, "SUBTERRA_USD_PER_HOUR": spec.cost.usd_per_hour, "SUBTERRA_MODEL_DIGEST": target.digest,
        VLLM_VARIABLE: f"http://127.0.0.1:{VLLM_PORT}", "SUBTERRA_TURNS_PER_CONVERSATION": f"{target.turns or 1:g}",
    }  # fmt: skip
    return container("exporter", settings.jobs_image, settings, {
        "command": ["python", "-m", "subterra_jobs.exporter"],
        "env": env(values),
        "ports": [{"name": "metrics", "containerPort": EXPORTER_PORT}],
        "resources": resources(settings.resources.exporter, settings.resources.exporter),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - an emptyDir of this pod
        "restartPolicy": "Always",
    })  # fmt: skip


def service(agent: Mapping[str, Any], port: int, version: str, now: datetime) -> Object:
    """The Service, with its traffic on one version."""
    name = agent["metadata"]["name"]
    result = base("Service", agent["metadata"]["namespace"], name, {AGENT_LABEL: name}, {SERVING_SINCE: timestamp(now)})
    result["metadata"]["ownerReferences"] = [owner(agent)]
    result["spec"] = {"type": "ClusterIP", "selector": selector(name, version), "ports": ports(port)}
    return result


def ports(port: int) -> list[Object]:
    """The Service's one port."""
    return [{"name": "http", "port": port, "targetPort": "http", "protocol": "TCP"}]


def selector(agent: str, version: str) -> dict[str, str]:
    """Which pods get traffic."""
    return {AGENT_LABEL: agent, VERSION_LABEL: version}


def describe(obj: Mapping[str, Any], since: str | None = None) -> AgentVersion:
    """The version that a Deployment runs, from its labels and annotations alone."""
    notes = annotations(obj)
    return AgentVersion(
        version=labels(obj)[VERSION_LABEL], model_digest=notes.get(MODEL_DIGEST, ""), model_path=notes.get(MODEL_PATH, ""),
        run=notes.get(RUN), since=since,
    )  # fmt: skip
