"""What all objects and pods of the operator share: metadata, owners, security, volumes, environment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subterra_api.digest import sha256, short
from subterra_api.job_contract.environment import STORE_MOUNT
from subterra_api.v1alpha1.base import SecretKeyReference
from subterra_api.v1alpha1.pod_settings import ResourceRequirements
from subterra_core.node_pools import Placement
from subterra_operator.labels import MANAGED_BY, MANAGER
from subterra_operator.resources import KINDS, Object
from subterra_operator.settings import Settings

USER_ID = 65532
NAME_LIMIT = 63
"""A Job's name becomes a label of its pods."""

CONTAINER_SECURITY: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD_SECURITY: Object = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
_USER = ("runAsUser", "runAsGroup", "fsGroup")
# Engines write caches and look up their user; the root file system is read-only and the user has no passwd entry.
HOME: Mapping[str, str] = {
    "HOME": "/tmp",  # noqa: S108 - an emptyDir of this pod
    "USER": "app",
    "VLLM_CACHE_ROOT": "/tmp/vllm",  # noqa: S108
    "XDG_CACHE_HOME": "/tmp/cache",  # noqa: S108
}
TMP_MOUNT: Object = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - an emptyDir of this pod


@dataclass(frozen=True)
class PodParts:
    """Containers and volumes of a pod; ``init_containers`` includes native sidecars."""

    containers: Sequence[Object]
    init_containers: Sequence[Object]
    volumes: Sequence[Object]


def new_object(
    kind: str, namespace: str, name: str, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> Object:
    """An object with its metadata only, labeled as managed by the operator."""
    metadata: Object = {"name": name, "namespace": namespace, "labels": {MANAGED_BY: MANAGER, **labels}}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": KINDS[kind].api_version, "kind": kind, "metadata": metadata}


def owner_reference(obj: Mapping[str, Any]) -> Object:
    """A reference that makes ``obj`` the controller: its children are deleted with it."""
    metadata = obj["metadata"]
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def truncate_name(name: str, limit: int = NAME_LIMIT) -> str:
    """``name``, or its beginning and a digest if it is too long, by default for a label."""
    if len(name) <= limit:
        return name
    return f"{name[: limit - 9].rstrip('-')}-{short(sha256(name))}"


def env(values: Mapping[str, str]) -> list[Object]:
    """Environment variables, sorted, so that equal values make equal objects."""
    return [{"name": name, "value": value} for name, value in sorted(values.items())]


def secret_env(variable: str, secret: SecretKeyReference) -> Object:
    """One variable whose value only kubelet reads."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}}}


def effective_resources(requested: ResourceRequirements, default: ResourceRequirements) -> ResourceRequirements:
    """The requested resources, or the administrator's default if there are none."""
    return requested if requested.requests or requested.limits else default


def resources(requested: ResourceRequirements, default: ResourceRequirements) -> Object:
    """The same as a container has them."""
    chosen = effective_resources(requested, default)
    parts = {"requests": chosen.requests, "limits": chosen.limits}
    return {key: {name: str(value) for name, value in sorted(part.items())} for key, part in parts.items() if part}


def volumes(settings: Settings, shm: str) -> list[Object]:
    """Store, scratch space and shared memory. vLLM and Ray need more shared memory than a container's 64 MiB."""
    return [
        {"name": "store", "persistentVolumeClaim": {"claimName": settings.store.claim}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shm}},
    ]


def mounts(*, read_only: bool) -> list[Object]:
    """Mounts of `volumes`. Read-only here and not in the volume: kubelet would skip fsGroup there."""
    store: Object = {"name": "store", "mountPath": STORE_MOUNT} | ({"readOnly": True} if read_only else {})
    return [store, TMP_MOUNT, {"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108


def container(name: str, image: str, settings: Settings, parts: Mapping[str, Any]) -> Object:
    """A container that Pod Security "restricted" admits."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **parts,
    }


def _security(settings: Settings) -> Object:
    """What all containers of a pod may do, and as whom unless the cluster decides that."""
    return POD_SECURITY if settings.fixed_user else {name: value for name, value in POD_SECURITY.items() if name not in _USER}


def pod_spec(settings: Settings, parts: PodParts, where: Placement) -> Object:
    """A restricted pod without a ServiceAccount token."""
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _security(settings),
        "containers": list(parts.containers),
        "volumes": list(parts.volumes),
    }
    if parts.init_containers:
        spec["initContainers"] = list(parts.init_containers)
    if where.node_selector:
        spec["nodeSelector"] = dict(where.node_selector)
    if where.tolerations:
        spec["tolerations"] = [dict(toleration) for toleration in where.tolerations]
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    return spec
