"""The kinds of objects that the operator handles: their API paths, and which fields of each the cache keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from subterra_api.v1alpha1 import GROUP, VERSION
from subterra_operator.labels import MANAGED_BY, MANAGER

Object = dict[str, Any]
"""A Kubernetes object as parsed from JSON."""


class Key(NamedTuple):
    """Identifies one object."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Version(NamedTuple):
    """Identifies one copy of an object: two copies of the same object are equal if and only if their versions are."""

    uid: str
    number: int


@dataclass(frozen=True)
class Kind:
    """A kind's place in the API. ``kept_paths`` are the fields of a watched object that the cache keeps (dotted paths)."""

    name: str
    group: str
    version: str
    plural: str
    kept_paths: tuple[str, ...] = ()
    ours: bool = False
    """Whether it is one of our own kinds, of which all objects are watched."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def selector(self) -> str:
        """Label selector of a watch: everything of our own kinds, and of other kinds what the operator created."""
        return "" if self.ours else f"{MANAGED_BY}={MANAGER}"

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of a collection or of one object."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        middle = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{middle}/{self.plural}" + (f"/{name}" if name else "")


KEPT_METADATA = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.labels",
    "metadata.annotations",
    "metadata.ownerReferences",
    "metadata.creationTimestamp",
    "metadata.deletionTimestamp",
)
_POD_PATHS = (
    "spec.nodeName",
    "status.phase",
    "status.podIP",
    "status.reason",
    "status.message",
    "status.conditions",
    "status.containerStatuses",
    "status.initContainerStatuses",
    "status.startTime",
)

_RAY_JOB_PATHS = (
    "status.jobDeploymentStatus",
    "status.reason",
    "status.message",
    "status.startTime",
    "status.endTime",
    "status.rayClusterName",
)

KINDS = {
    kind.name: kind
    for kind in (
        Kind("Procedure", GROUP, VERSION, "procedures", ("spec", "status"), ours=True),
        Kind("CompileRun", GROUP, VERSION, "compileruns", ("spec", "status"), ours=True),
        Kind("CompiledAgent", GROUP, VERSION, "compiledagents", ("spec", "status"), ours=True),
        Kind("Job", "batch", "v1", "jobs", ("spec.suspend", "status")),
        Kind("JobSet", "jobset.x-k8s.io", "v1alpha2", "jobsets", ("spec.suspend", "status")),
        Kind("RayJob", "ray.io", "v1", "rayjobs", ("spec.suspend", *_RAY_JOB_PATHS)),
        Kind("Pod", "", "v1", "pods", _POD_PATHS),
        Kind("Deployment", "apps", "v1", "deployments", ("spec.replicas", "spec.selector", "spec.template", "status")),
        Kind("Service", "", "v1", "services", ("spec.selector", "spec.ports")),
        Kind("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes", ("spec", "status.parents")),
        Kind("InferencePool", "inference.networking.k8s.io", "v1", "inferencepools", ("spec", "status.parents")),
        Kind("ConfigMap", "", "v1", "configmaps", ("immutable",)),
        Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims"),
        Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
        Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
        Kind("Lease", "coordination.k8s.io", "v1", "leases"),
        Kind("Event", "events.k8s.io", "v1", "events"),
        Kind("Workload", "kueue.x-k8s.io", "v1beta2", "workloads", ours=True),
    )
}
WATCHED = (
    *("Procedure", "CompileRun", "CompiledAgent"),
    *("Job", "JobSet", "RayJob", "Pod", "Deployment", "Service", "HTTPRoute", "InferencePool", "ConfigMap"),
)
OPTIONAL = ("JobSet", "RayJob", "HTTPRoute", "InferencePool")
"""Watched kinds that a cluster may lack."""
JOB_KINDS = ("Job", "JobSet", "RayJob")
"""What an attempt at a stage may be."""
RECONCILED = ("Procedure", "CompileRun", "CompiledAgent")


def trim(obj: Mapping[str, Any]) -> Object:
    """A copy with only the fields that decisions read."""
    result: Object = {"apiVersion": obj.get("apiVersion"), "kind": obj["kind"]}
    for path in (*KEPT_METADATA, *KINDS[obj["kind"]].kept_paths):
        _copy(obj, result, path.split("."))
    return result


def _copy(source: Any, target: Object, path: list[str]) -> None:
    for part in path[:-1]:
        source, target = source.get(part) or {}, target.setdefault(part, {})
    if source.get(path[-1]) is not None:
        target[path[-1]] = source[path[-1]]


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """The kind of an object, in the version that the object names."""
    return replace(KINDS[obj["kind"]], version=obj["apiVersion"].rpartition("/")[2])


def key_of(obj: Mapping[str, Any]) -> Key:
    """The key of an object."""
    return Key(obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"])


def version_of(obj: Mapping[str, Any]) -> Version:
    """The version of a copy of an object."""
    return Version(obj["metadata"]["uid"], int(obj["metadata"]["resourceVersion"]))


def controller_uid(obj: Mapping[str, Any]) -> str | None:
    """UID of the owner that controls the object."""
    owners = obj["metadata"].get("ownerReferences") or []
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def owning_agent(run: Mapping[str, Any]) -> str | None:
    """Name of the agent that made a run and pays for it. Labels do not count: anybody who may make runs can set them."""
    owners = run["metadata"].get("ownerReferences") or []
    return next((owner["name"] for owner in owners if owner.get("controller") and owner["kind"] == "CompiledAgent"), None)


def is_deleting(obj: Mapping[str, Any]) -> bool:
    """Whether the object has been marked for deletion."""
    return "deletionTimestamp" in obj["metadata"]
