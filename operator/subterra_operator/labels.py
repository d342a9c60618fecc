"""Keys of all labels and annotations that the operator writes or reads."""

from collections.abc import Mapping
from typing import Any

from subterra_api.v1alpha1 import GROUP, RETRY_AT

# Labels

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "subterra"
"""Value of `MANAGED_BY` on everything the operator creates."""
COMPONENT_LABEL = "app.kubernetes.io/component"
AGENT_LABEL = f"{GROUP}/agent"
RUN_LABEL = f"{GROUP}/run"
STAGE_LABEL = f"{GROUP}/stage"
VERSION_LABEL = f"{GROUP}/version"
ATTEMPT_LABEL = f"{GROUP}/attempt"
NODES_LABEL = f"{GROUP}/nodes"
"""On a JobSet, its Job and its pods, and on a RayJob and its pods: the number of pods that work together and reach each other."""
REGISTRY_LABEL = f"{GROUP}/registry"
"""On a pod: "true" when it may reach OCI registries."""
CALLERS_LABEL = f"{GROUP}/callers"
"""On serving pods whose agent names the namespaces that may call it: `LISTED`. Other pods answer to all."""
LISTED = "listed"
RAY_LABEL = f"{GROUP}/ray"
"""On the pods of a RayJob: driver, head or worker."""
RAY_COMPONENT = "ray"
"""Value of `COMPONENT_LABEL` on its head and workers, which report nothing themselves."""
RUN_UID_LABEL = f"{GROUP}/run-uid"
"""On the pods of a RayJob, whose owners are KubeRay's: UID of the run."""
ATTACH_LABEL = f"{GROUP}/attach"
"""On a Job: "true" when it only reads back the result of a finished attempt."""

# Annotations on runs and their objects

SUPERSEDED_BY = f"{GROUP}/superseded-by"
"""On a run, written by its agent: what replaces it, another run or ``spec.model``."""
SUSPENDED_BY_OPERATOR = f"{GROUP}/suspended"
"""On a Job that the operator suspended and will resume. Kueue suspends Jobs too."""
ARTIFACT_KEYS = f"{GROUP}/artifact-keys"
PROCEDURE_DIGEST = f"{GROUP}/procedure-digest"
BANNER = f"{GROUP}/banner"
TOOLS = f"{GROUP}/tools"

# Annotations on served versions

MODEL_DIGEST = f"{GROUP}/model-digest"
MODEL_PATH = f"{GROUP}/model-path"
RUN_ANNOTATION = f"{GROUP}/run"
"""On a Deployment: the run that made its model. The Deployment belongs to the agent, so it does not carry `RUN_LABEL`."""
STARTED_AT = f"{GROUP}/started-at"
"""On a Deployment: when the version was last started; its progress deadline counts from here."""
STOPPED_AT = f"{GROUP}/stopped-at"
"""On the Deployment with traffic: when it was stopped to make room for another version (`promotion.rollout: Recreate`)."""
RESTART_AT = f"{GROUP}/restart-at"
"""On a Deployment: `spec.serving.restartAt` when it was made."""
FAILURE_REASON = f"{GROUP}/failed"
"""On a Deployment or Job: why the version or the attempt was given up. It is not started again until someone asks for a retry."""
CANARY_ABORTED = f"{GROUP}/canary-aborted"
"""On a Deployment that was given up: it was its canary, not its start."""
SERVING_SINCE = f"{GROUP}/serving-since"
"""On the Service: when traffic last moved."""

# Bookkeeping

MADE = f"{GROUP}/made"
"""On a Deployment: labels and pod template as the API server stored them when it was made, as JSON. Changes are measured by it."""
RESTORED_AT = f"{GROUP}/restored-at"
"""On a Deployment or the Service: when the operator last undid somebody's change of it."""
APPLIED_DIGEST = f"{GROUP}/applied"
"""On an applied object: digest of what was applied, so that a later operator sees whether a field has to be removed."""
HEARTBEAT_NAME = "subterra-operator-heartbeat"
"""Name of the ConfigMap that the operator writes all the time and must receive through its watch."""
HEARTBEAT_TIME = f"{GROUP}/beat"

OLD_SPELLINGS = {
    RETRY_AT: f"{GROUP}/retryAt",
    SUPERSEDED_BY: f"{GROUP}/supersededBy",
    STARTED_AT: f"{GROUP}/startedAt",
    SERVING_SINCE: f"{GROUP}/servingSince",
}
"""Annotations as earlier releases spelled them: still read, because existing objects carry them, but no longer written."""


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """An object's labels, possibly empty."""
    labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
    return labels


def annotations_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """An object's annotations, possibly empty."""
    annotations: Mapping[str, str] = obj["metadata"].get("annotations") or {}
    return annotations


def annotation_values(obj: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Distinct values of an annotation under its present and its old spelling, the present one first."""
    annotations = annotations_of(obj)
    spellings = (key, OLD_SPELLINGS.get(key, key))
    return tuple(dict.fromkeys(annotations[spelling] for spelling in spellings if spelling in annotations))


def annotation(obj: Mapping[str, Any], key: str) -> str | None:
    """Value of an annotation, else of its old spelling, else `None`."""
    return next(iter(annotation_values(obj, key)), None)


def annotation_patch(obj: Mapping[str, Any], key: str, value: str | None) -> dict[str, str | None]:
    """The merge patch that sets an annotation, or removes it for `None`, and removes its old spelling."""
    present, old = annotations_of(obj), OLD_SPELLINGS.get(key, key)
    patch: dict[str, str | None] = {key: value} if value is not None or key in present else {}
    if old != key and old in present:
        patch[old] = None
    return patch
