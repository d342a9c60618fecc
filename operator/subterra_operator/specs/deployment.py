"""The Deployment of one version of a served agent.

`spec.monitoring` adds a recorder in vLLM, a monitor that reads its records, and the folder between them. The recorder is one file
that needs only Python. An init container copies it from the jobs image, so any image with vLLM will do; vLLM's container has the
file's folder as its working directory, where `python3 -m` finds modules, and no variable of the image is replaced.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from subterra_api.digest import sha256, short, significant_fields
from subterra_api.job_contract.environment import (
    EXPORTER_PORT,
    KEEP_DAYS_VARIABLE,
    KEEP_VARIABLE,
    LOCAL_VLLM_URL,
    MODEL_DIGEST_VARIABLE,
    MODEL_PATH_VARIABLE,
    RECORD_PER_HOUR_VARIABLE,
    RECORD_SAMPLE_VARIABLE,
    REPORT_PATH_VARIABLE,
    SERVED_MOUNT,
    SERVED_VARIABLE,
    TURNS_VARIABLE,
    USD_PER_HOUR_VARIABLE,
    VLLM_VARIABLE,
)
from subterra_api.v1alpha1.compiledagent import AgentVersion, CompiledAgentSpec, MonitoringSettings, ServingSettings
from subterra_api.v1alpha1.conditions import timestamp
from subterra_api.v1alpha1.model_registry import ModelSource
from subterra_api.v1alpha1.pod_settings import ResourceRequirements
from subterra_core.node_pools import placement, serving_usd_per_hour
from subterra_operator.labels import (
    AGENT_LABEL,
    CALLERS_LABEL,
    COMPONENT_LABEL,
    LISTED,
    MANAGED_BY,
    MANAGER,
    MODEL_DIGEST,
    MODEL_PATH,
    REGISTRY_LABEL,
    RESTART_AT,
    RUN_ANNOTATION,
    STARTED_AT,
    VERSION_LABEL,
    annotations_of,
    labels_of,
)
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.extra_pod_settings import extended
from subterra_operator.specs.pod import (
    HOME,
    TMP_MOUNT,
    PodParts,
    container,
    env,
    mounts,
    new_object,
    owner_reference,
    pod_spec,
    resources,
    volumes,
)
from subterra_operator.specs.registry_pods import pull_container, pulled_volumes
from subterra_operator.specs.traffic.api_key import guarded
from subterra_operator.specs.traffic.state_pods import with_state
from subterra_operator.specs.vllm_container import DRAIN_SECONDS, Model, drain_command, vllm_container

GRACE_AFTER_DRAIN_SECONDS = 30
SHARED_MEMORY = "1Gi"
RECORDER_MOUNT, RECORDER_MODULE = "/subterra-recorder", "subterra_recorder"
PACKAGE = "subterra_jobs.evaluate.analysis.served"
DEFAULT_RESOURCES = ResourceRequirements(requests={"cpu": "100m", "memory": "1Gi"}, limits={"cpu": "1", "memory": "1536Mi"})
"""Labelling by similarity holds an encoder; it is in no hurry."""
VOLUME_LIMIT = "512Mi"
"""Above what recorder (32 MiB) and monitor (64 MiB) ever write, so that no pod is evicted for it."""
_RECORDER_VOLUME, _SERVED_VOLUME = "recorder", "served"
_SERVED: Object = {"name": _SERVED_VOLUME, "mountPath": SERVED_MOUNT}
_NOT_IN_PODS = ("replicas", "port", "allowedNamespaces", "inferencePool")
"""Fields of `spec.serving` that change no pod."""
_MIDDLEWARE: Object = {"name": _RECORDER_VOLUME, "mountPath": RECORDER_MOUNT}
"""The folder with files of ours that vLLM imports: the recorder, the route of states, and the guard of an API key."""


@dataclass(frozen=True)
class ServingTarget:
    """A model that should be served."""

    model: Model
    digest: str
    run: str | None = None
    turns: float | None = None
    """Mean number of agent turns in a conversation; without it the exporter counts each reply as a conversation."""
    report: str | None = None
    """Path of the report of its evaluation in the store."""
    pulled: ModelSource | None = None
    """The registry that it comes from; `None` for a model in the store."""


def version_of(target: ServingTarget, serving: ServingSettings, monitoring: MonitoringSettings | None = None) -> str:
    """Short digest of model, serving template and monitoring. Changing `_NOT_IN_PODS` makes no new version.

    Naming callers for the first time does, since the pods' labels say whether they answer to all.
    """
    template = {key: value for key, value in significant_fields(serving).items() if key not in _NOT_IN_PODS}
    template |= {CALLERS_LABEL: LISTED} if serving.allowed_namespaces is not None else {}
    others = [significant_fields(part) for part in (monitoring, target.pulled) if part is not None]
    return short(sha256([target.digest, target.model.path, template, *others]))


def deployment_name(agent: str, version: str) -> str:
    """``<agent>-<version>``."""
    return f"{agent}-{version}"


def deployment(
    agent: Mapping[str, Any], spec: CompiledAgentSpec, target: ServingTarget, settings: Settings, now: datetime
) -> Object:
    """The version's Deployment. After creation only its replicas change, so an operator upgrade restarts no pod."""
    name, version = agent["metadata"]["name"], version_of(target, spec.serving, spec.monitoring)
    labels = {AGENT_LABEL: name, VERSION_LABEL: version, COMPONENT_LABEL: "serving"}
    pod_labels = labels | _callers(spec) | ({REGISTRY_LABEL: "true"} if target.pulled else {})
    annotations = {MODEL_DIGEST: target.digest, MODEL_PATH: target.model.path, STARTED_AT: timestamp(now)}
    if target.run:
        annotations[RUN_ANNOTATION] = target.run
    if spec.serving.restart_at:
        annotations[RESTART_AT] = spec.serving.restart_at
    result = new_object("Deployment", agent["metadata"]["namespace"], deployment_name(name, version), labels, annotations)
    result["metadata"]["ownerReferences"] = [owner_reference(agent)]
    result["spec"] = {
        "replicas": spec.serving.replicas,
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": spec.promotion.progress_deadline_seconds,
        "selector": {"matchLabels": {AGENT_LABEL: name, VERSION_LABEL: version}},
        "template": extended(
            {"metadata": {"labels": {MANAGED_BY: MANAGER, **pod_labels}}, "spec": _pod(spec, target, settings)},
            spec.serving.pod_template,
            target.model.container,
        ),
    }
    return result


def version_label(deployment: Mapping[str, Any]) -> str | None:
    """The version that a Deployment runs: of its selector, which nobody can change, else of its labels."""
    chosen = deployment["spec"].get("selector", {}).get("matchLabels", {}).get(VERSION_LABEL)
    return chosen or labels_of(deployment).get(VERSION_LABEL)


def deployed_version(deployment: Mapping[str, Any], since: str | None = None) -> AgentVersion:
    """The version that a Deployment runs, from its labels and annotations alone."""
    annotations = annotations_of(deployment)
    return AgentVersion(
        version=version_label(deployment) or "",
        model_digest=annotations.get(MODEL_DIGEST, ""),
        model_path=annotations.get(MODEL_PATH, ""),
        run=annotations.get(RUN_ANNOTATION),
        since=since,
        restart_at=annotations.get(RESTART_AT),
    )


def _callers(spec: CompiledAgentSpec) -> dict[str, str]:
    """The label of pods that only listed namespaces may call: the namespace's own policy leaves such pods out."""
    return {} if spec.serving.allowed_namespaces is None else {CALLERS_LABEL: LISTED}


def _pod(spec: CompiledAgentSpec, target: ServingTarget, settings: Settings) -> Object:
    serving = spec.serving
    drain = {"lifecycle": {"preStop": {"exec": {"command": drain_command()}}}}
    parts = PodParts(
        containers=[vllm_container(settings, target.model, serving.args, serving.resources, drain)],
        init_containers=[_verify(spec, target, settings), _exporter(spec, target, settings)],
        volumes=volumes(settings, str(serving.shared_memory or SHARED_MEMORY)),
    )
    if target.pulled is not None:
        parts = replace(parts, volumes=pulled_volumes(target.pulled, [*parts.volumes]))
    if spec.monitoring is not None:
        parts = _watched(parts, spec.monitoring, target, settings)
    if serving.conversation_state is not None:
        parts = with_state(parts, serving.conversation_state, target.model.path, _MIDDLEWARE, settings)
    if serving.api_key_secret is not None:
        parts = guarded(parts, serving.api_key_secret, _MIDDLEWARE, settings)
    pod = pod_spec(settings, parts, placement(serving, settings.pools))
    return pod | {"terminationGracePeriodSeconds": DRAIN_SECONDS + GRACE_AFTER_DRAIN_SECONDS}


def _watched(parts: PodParts, monitoring: MonitoringSettings, target: ServingTarget, settings: Settings) -> PodParts:
    """The pod with a recorder in vLLM and a monitor next to it."""
    (vllm,), (verify, exporter) = parts.containers, parts.init_containers
    sidecar = _monitor(settings, monitoring, target.model.path, target.report)
    return PodParts(
        containers=[_recording(vllm, monitoring)],
        init_containers=[verify, _recorder_file(settings), _publishing(exporter), sidecar],
        volumes=[*parts.volumes, *_monitor_volumes()],
    )


def _verify(spec: CompiledAgentSpec, target: ServingTarget, settings: Settings) -> Object:
    """An init container that compares the model's files with its digest, or pulls them, at each start of a pod.

    It has vLLM's cores and memory, save GPUs: those are reserved for the pod anyway, and nothing else uses them yet.
    """
    reserved = {
        kind: {name: part[name] for name in ("cpu", "memory") if name in part}
        for kind, part in resources(spec.serving.resources, settings.resources.vllm).items()
    }
    if target.pulled is not None:
        return pull_container(target.pulled, target.model.path, reserved, spec.serving, settings)
    parts = {
        "command": ["python", "-m", "subterra_jobs.store.verify", target.model.path, target.digest],
        "env": env(HOME),
        "resources": reserved,
        "volumeMounts": mounts(read_only=True),
    }
    return container("verify", settings.jobs_image, settings, parts)


def _exporter(spec: CompiledAgentSpec, target: ServingTarget, settings: Settings) -> Object:
    """A native sidecar: it starts before vLLM counts its first token and ends after it has counted its last."""
    values = {
        **HOME,
        USD_PER_HOUR_VARIABLE: serving_usd_per_hour(spec, settings.pools),
        MODEL_DIGEST_VARIABLE: target.digest,
        VLLM_VARIABLE: LOCAL_VLLM_URL,
        TURNS_VARIABLE: f"{target.turns or 1:g}",
    }
    parts = {
        "command": ["python", "-m", "subterra_jobs.exporter"],
        "env": env(values),
        "ports": [{"name": "metrics", "containerPort": EXPORTER_PORT}],
        "resources": resources(settings.resources.exporter, settings.resources.exporter),
        "volumeMounts": [TMP_MOUNT],
        "restartPolicy": "Always",
    }
    return container("exporter", settings.jobs_image, settings, parts)


def _monitor_volumes() -> list[Object]:
    """The folders of the recorder's file and of its records."""
    return [
        {"name": _RECORDER_VOLUME, "emptyDir": {"sizeLimit": "1Mi"}},
        {"name": _SERVED_VOLUME, "emptyDir": {"sizeLimit": VOLUME_LIMIT}},
    ]


def _recorder_file(settings: Settings) -> Object:
    """An init container that provides the recorder's file."""
    parts = {
        "command": ["python", "-m", f"{PACKAGE}.recorder", RECORDER_MOUNT],
        "env": env(HOME),
        "resources": resources(settings.resources.exporter, settings.resources.exporter),
        "volumeMounts": [_MIDDLEWARE],
    }
    return container("recorder", settings.jobs_image, settings, parts)


def _monitor(settings: Settings, monitoring: MonitoringSettings, model_path: str, report_path: str | None) -> Object:
    """A native sidecar that labels and counts what was recorded."""
    values = {
        **HOME,
        SERVED_VARIABLE: SERVED_MOUNT,
        MODEL_PATH_VARIABLE: model_path,
        KEEP_VARIABLE: monitoring.keep,
        KEEP_DAYS_VARIABLE: str(monitoring.keep_days),
    }
    parts = {
        "command": ["python", "-m", PACKAGE],
        "env": env(values | ({REPORT_PATH_VARIABLE: report_path} if report_path else {})),
        "resources": resources(monitoring.resources, DEFAULT_RESOURCES),
        "volumeMounts": [*mounts(read_only=True), _SERVED],
        "restartPolicy": "Always",
    }
    return container("monitor", settings.jobs_image, settings, parts)


def _recording(vllm: Mapping[str, Any], monitoring: MonitoringSettings) -> Object:
    """vLLM's container with the recorder as its middleware."""
    values = {
        SERVED_VARIABLE: SERVED_MOUNT,
        RECORD_SAMPLE_VARIABLE: monitoring.sample,
        RECORD_PER_HOUR_VARIABLE: str(monitoring.max_requests_per_hour),
    }
    return {
        **vllm,
        "command": [*vllm["command"], "--middleware", f"{RECORDER_MODULE}.Recorder"],
        "workingDir": RECORDER_MOUNT,
        "env": sorted([*vllm["env"], *env(values)], key=lambda variable: str(variable["name"])),
        "volumeMounts": [*vllm["volumeMounts"], _MIDDLEWARE | {"readOnly": True}, _SERVED],
    }


def _publishing(exporter: Mapping[str, Any]) -> Object:
    """The exporter's container with the counts that it publishes."""
    variables = [*exporter["env"], *env({SERVED_VARIABLE: SERVED_MOUNT})]
    return {
        **exporter,
        "env": sorted(variables, key=lambda variable: str(variable["name"])),
        "volumeMounts": [*exporter["volumeMounts"], _SERVED | {"readOnly": True}],
    }
