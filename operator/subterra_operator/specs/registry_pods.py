"""Pods that push models to OCI registries and pull them from there."""

from collections.abc import Mapping
from typing import Any

from subterra_api.digest import sha256, short
from subterra_api.job_contract.model_transfer import (
    EXPORT_VARIABLE,
    PULL_VARIABLE,
    REGISTRY_MOUNT,
    SIGNING_MOUNT,
    ExportRequest,
    PullRequest,
)
from subterra_api.v1alpha1.base import LocalReference
from subterra_api.v1alpha1.compiledagent import ServingSettings
from subterra_api.v1alpha1.model_registry import ExportSettings, ModelSource
from subterra_api.v1alpha1.pod_settings import ResourceRequirements
from subterra_core.node_pools import placement
from subterra_operator.labels import AGENT_LABEL, COMPONENT_LABEL, MANAGED_BY, MANAGER, REGISTRY_LABEL
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.extra_pod_settings import extended, with_env
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
    truncate_name,
    volumes,
)

PULL = "pull"
"""Name of the init container that pulls a model."""
RETRIES = 4
"""Pods of an export after the first, with growing pauses in between."""
DEADLINE_SECONDS = 6 * 3600
KEPT_SECONDS = 24 * 3600
"""How long an export that ended is kept; one that failed is then made again."""
EXPORT_RESOURCES = ResourceRequirements(requests={"cpu": "100m", "memory": "256Mi"}, limits={"cpu": "1", "memory": "512Mi"})
_REGISTRY, _SIGNING = "registry", "signing"


def export_name(agent: str, settings: ExportSettings, model: str) -> str:
    """Name of the Job that exports a model: one for each model, place and key."""
    return truncate_name(f"{agent}-export-{short(sha256([model, settings.dump()]))}")


def export_job(
    agent: Mapping[str, Any], settings: ExportSettings, request: ExportRequest, serving: ServingSettings, operator: Settings
) -> Object:
    """The Job that pushes a model. It runs where what serves runs, so that it can mount the same store."""
    name, namespace = agent["metadata"]["name"], agent["metadata"]["namespace"]
    labels = {AGENT_LABEL: name, COMPONENT_LABEL: "export"}
    job = new_object("Job", namespace, export_name(name, settings, request.provenance.model), labels)
    job["metadata"]["ownerReferences"] = [owner_reference(agent)]
    secrets, where = {_REGISTRY: settings.registry_secret, _SIGNING: settings.signing_secret}, placement(serving, operator.pools)
    parts = {
        "command": ["python", "-m", "subterra_jobs.store.registry.push"],
        "env": env({**HOME, EXPORT_VARIABLE: request.model_dump_json(by_alias=True, exclude_none=True)}),
        "resources": resources(EXPORT_RESOURCES, EXPORT_RESOURCES),
        "volumeMounts": [*mounts(read_only=True), *_secret_mounts(secrets)],
    }
    main = container("main", operator.jobs_image, operator, parts)
    pod = pod_spec(operator, PodParts([main], [], [*volumes(operator, "64Mi"), *_secret_volumes(secrets)]), where)
    metadata = {"labels": {MANAGED_BY: MANAGER, **labels, REGISTRY_LABEL: "true"}}
    job["spec"] = {
        "backoffLimit": RETRIES,
        "activeDeadlineSeconds": DEADLINE_SECONDS,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "template": extended({"metadata": metadata, "spec": pod | {"restartPolicy": "Never"}}, serving.pod_template, "main"),
    }
    return job


def pull_container(
    source: ModelSource, path: str, reserved: Mapping[str, Any], serving: ServingSettings, settings: Settings
) -> Object:
    """An init container that pulls a model and verifies it, at each start of a pod; ``reserved`` are its resources.

    It has the variables of the pod template too: the way to the registry may be a proxy.
    """
    policy = source.require_attestation
    request = PullRequest(uri=source.uri, digest=source.digest, path=path, public_key=policy.public_key if policy else None)
    parts = {
        "command": ["python", "-m", "subterra_jobs.store.registry.pull"],
        "env": env({**HOME, PULL_VARIABLE: request.model_dump_json(by_alias=True, exclude_none=True)}),
        "resources": reserved,
        "volumeMounts": [mounts(read_only=False)[0], TMP_MOUNT, *_secret_mounts({_REGISTRY: source.registry_secret})],
    }
    return with_env(container(PULL, settings.jobs_image, settings, parts), serving.pod_template.dump().get("env", []))


def pulled_volumes(source: ModelSource, known: list[Object]) -> list[Object]:
    """The pod's volumes with an empty folder in place of the store, for the model that is pulled."""
    empty: Object = {"name": "store", "emptyDir": {}}
    return [*(empty if each["name"] == "store" else each for each in known), *_secret_volumes({_REGISTRY: source.registry_secret})]


def _secret_volumes(secrets: Mapping[str, LocalReference | None]) -> list[Object]:
    return [{"name": name, "secret": {"secretName": secret.name}} for name, secret in secrets.items() if secret]


def _secret_mounts(secrets: Mapping[str, LocalReference | None]) -> list[Object]:
    places = {_REGISTRY: REGISTRY_MOUNT, _SIGNING: SIGNING_MOUNT}
    return [{"name": name, "mountPath": places[name], "readOnly": True} for name, secret in secrets.items() if secret]
