"""Adds an author's `podTemplate` to a pod template that the operator has built."""

from collections.abc import Mapping, Sequence
from typing import Any

from subterra_api.v1alpha1.pod_template import PodTemplate
from subterra_operator.resources import Object

_PLAIN = ("serviceAccountName", "priorityClassName", "runtimeClassName", "schedulerName", "topologySpreadConstraints")


def extended(built: Object, template: PodTemplate, worker: str) -> Object:
    """``built`` with what ``template`` adds; ``worker`` is the container that gets its variables. What is there already wins."""
    added = template.dump()
    metadata, spec = dict(built["metadata"]), dict(built["spec"])
    for key in ("labels", "annotations"):
        if merged := {**added.get(key, {}), **metadata.get(key, {})}:
            metadata[key] = merged
    spec |= {key: added[key] for key in _PLAIN if key in added}
    if affinity := added.get("affinity"):
        spec["affinity"] = affinity
    if secrets := [{"name": name} for name in added.get("imagePullSecrets", [])]:
        known = spec.get("imagePullSecrets", [])
        spec["imagePullSecrets"] = [*known, *(secret for secret in secrets if secret not in known)]
    if variables := added.get("env", []):
        spec["containers"] = [with_env(each, variables) if each["name"] == worker else each for each in spec["containers"]]
    return {**built, "metadata": metadata, "spec": spec}


def with_env(container: Mapping[str, Any], variables: Sequence[Object]) -> Object:
    """``container`` with further variables. What is there already wins."""
    known = {variable["name"] for variable in container.get("env", [])}
    return {**container, "env": [*container.get("env", []), *(each for each in variables if each["name"] not in known)]}
