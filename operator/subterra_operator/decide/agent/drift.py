"""Drift of an agent's Deployments and Service: what others changed behind the operator's back, and the write that restores it.

A Deployment is compared with what the API server stored when it was made, which it carries in an annotation: not with what this
operator would make, or an upgrade would restart pods; nor with what was sent, or the operator would fight admission policies.
Additions are left to others: annotations, containers, variables, volumes, node labels. A restored object is left alone for
`PAUSE_SECONDS`, so that another writer who insists meets a report and no endless loop of writes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from subterra_api.digest import canonical
from subterra_api.v1alpha1.conditions import timestamp
from subterra_operator.decide.decision import Write, patch, seconds_since
from subterra_operator.labels import (
    AGENT_LABEL,
    COMPONENT_LABEL,
    MADE,
    MANAGED_BY,
    RESTORED_AT,
    VERSION_LABEL,
    annotations_of,
    labels_of,
)
from subterra_operator.resources import Object, key_of
from subterra_operator.snapshot import Observed
from subterra_operator.specs.deployment import version_label
from subterra_operator.specs.traffic.service import ports, selector

PAUSE_SECONDS = 300.0
"""How long an object that was restored is left as it is when it changes again."""
RECORD_BYTES = 240 * 1024
"""Largest record: the API server takes 256 KiB of annotations, and an author may give vLLM as much in variables."""
CONTAINERS = ("initContainers", "containers")
KEYED = {"env": "name", "volumeMounts": "mountPath", "volumes": "name", "imagePullSecrets": "name"}
"""Lists to which others may add items, and what identifies an item."""
EMPTY_UNLESS_MADE = ("command", "args", "workingDir")
"""Fields of a container that change what it runs, so that nobody may add them."""
_LABELS = (AGENT_LABEL, VERSION_LABEL, COMPONENT_LABEL, MANAGED_BY)


@dataclass(frozen=True)
class Drift:
    """The changed ``fields`` of an object. Without a ``write`` it is left as it is for ``recheck_after`` seconds, or for good."""

    fields: tuple[str, ...]
    message: str
    write: Write | None = None
    recheck_after: float | None = None


def drifts(
    agent: str,
    versions: Mapping[str, Observed],
    replicas: Mapping[str, int],
    service: Observed | None,
    port: int,
    edited: bool,
    now: datetime,
) -> tuple[Drift, ...]:
    """The drift of Deployments by version, some of which must have these ``replicas``, and of the Service.

    The Service's port may differ because the spec was just ``edited``.
    """
    found = [deployment_drift(deployed, agent, version, replicas.get(version), now) for version, deployed in versions.items()]
    active = service["spec"].get("selector", {}).get(VERSION_LABEL) if service else None
    if service and active and active in versions:
        found.append(service_drift(service, agent, active, port, edited, now))
    return tuple(drift for drift in found if drift)


def record(deployed: Observed) -> Write | None:
    """The write that records a Deployment as it is, unless that has been done: once, just after it was made.

    One whose record would be refused gets none, and its drift is not measured.
    """
    if MADE in annotations_of(deployed) or "template" not in deployed["spec"]:
        return None
    made = canonical({"labels": _own_labels(deployed), "template": deployed["spec"]["template"]})
    return patch(deployed, {"metadata": {"annotations": {MADE: made.decode()}}}) if len(made) <= RECORD_BYTES else None


def deployment_drift(deployed: Observed, agent: str, version: str, replicas: int | None, now: datetime) -> Drift | None:
    """What differs from the Deployment of ``version`` as it was made, as far as it has a record; `None` if nothing does."""
    wanted = selector(agent, version)
    if deployed["spec"].get("selector", {}).get("matchLabels", wanted) != wanted:
        text = "selects other pods than its own, which cannot be changed; delete it, and it is made again"
        return Drift(("spec.selector",), f"{_named(deployed)} {text}")
    changed, restored = _changes(deployed, made) if (made := _made(deployed)) else ([], {"metadata": {}, "spec": {}})
    if replicas is not None and deployed["spec"].get("replicas") != replicas:
        changed, restored = [*changed, "spec.replicas"], {**restored, "spec": {**restored["spec"], "replicas": replicas}}
    return _drift(deployed, changed, restored, now) or (_being_replaced(deployed, now) if made else None)


def _changes(deployed: Observed, made: Object) -> tuple[list[str], Object]:
    """Paths of labels and pod template that differ from what was made, and the change that restores it."""
    template, labels = deployed["spec"].get("template", {}), labels_of(deployed)
    changed = [f"metadata.labels[{name}]" for name, value in made["labels"].items() if labels.get(name) != value]
    changed += [f"spec.template.{path}" for path in _template_changes(template, made["template"])]
    return changed, {"metadata": {"labels": made["labels"]}, "spec": {"template": _restored_template(template, made["template"])}}


def service_drift(service: Observed, agent: str, version: str, port: int, edited: bool, now: datetime) -> Drift | None:
    """What differs from the Service with its traffic on ``version``; `None` if nothing does."""
    found, wanted = service["spec"].get("selector") or {}, selector(agent, version)
    changed = [] if found == wanted else ["spec.selector"]
    present, own = service["spec"].get("ports") or [], ports(port)
    if not has_all(present, own):
        changed.append("spec.ports")
    if labels_of(service).get(AGENT_LABEL) != agent:
        changed.append(f"metadata.labels[{AGENT_LABEL}]")
    spec = {"selector": dict.fromkeys(found) | wanted, "ports": own}
    restored = {"metadata": {"labels": {AGENT_LABEL: agent}}, "spec": spec}
    if edited and changed == ["spec.ports"]:
        return Drift((), "", patch(service, restored))
    return _drift(service, changed, restored, now)


def _being_replaced(deployed: Observed, now: datetime) -> Drift | None:
    """The state after a template was restored and before all pods of the changed one are gone."""
    since = annotations_of(deployed).get(RESTORED_AT)
    if since is None:
        return None
    status, generation = deployed.get("status", {}), deployed["metadata"].get("generation", 0)
    unseen = status.get("observedGeneration", 0) < generation and seconds_since(since, now) < PAUSE_SECONDS
    if unseen or status.get("replicas", 0) > status.get("updatedReplicas", 0):
        return Drift(("pods",), f"{_named(deployed)} was changed and has been restored; its pods are being replaced")
    return None


def _drift(obj: Observed, changed: Sequence[str], restored: Object, now: datetime) -> Drift | None:
    if not changed:
        return None
    left = PAUSE_SECONDS - seconds_since(annotations_of(obj).get(RESTORED_AT), now)
    text = f"{_named(obj)} was changed: {', '.join(changed)}"
    if left > 0:
        minutes = f"{PAUSE_SECONDS / 60:.0f} minutes"
        fix = f"it was restored less than {minutes} ago, so something else insists; find it in metadata.managedFields and stop it"
        return Drift(tuple(changed), f"{text}; {fix}", recheck_after=left)
    metadata = {**restored["metadata"], "annotations": {RESTORED_AT: timestamp(now)}}
    fix = "it is being restored; set what you need in the CompiledAgent instead"
    return Drift(tuple(changed), f"{text}; {fix}", patch(obj, {**restored, "metadata": metadata}))


def _named(obj: Observed) -> str:
    return f"{key_of(obj).kind} {key_of(obj).name}"


def _own_labels(deployed: Observed) -> dict[str, str]:
    """The operator's labels; the version's is what the selector says, which nobody can change."""
    labels = {name: value for name, value in labels_of(deployed).items() if name in _LABELS}
    version = version_label(deployed)
    return labels | ({VERSION_LABEL: version} if version else {})


def _made(deployed: Observed) -> Object | None:
    """A Deployment as it was made; `None` if its record is missing or unreadable."""
    try:
        made: Object = json.loads(annotations_of(deployed).get(MADE, ""))
    except ValueError:
        return None
    return made if isinstance(made, dict) and {"labels", "template"} <= made.keys() else None


def _template_changes(actual: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    """Paths within a pod template that differ from what was made."""
    labels = actual.get("metadata", {}).get("labels") or {}
    for name, value in made["metadata"].get("labels", {}).items():
        if labels.get(name) != value:
            yield f"metadata.labels[{name}]"
    pod = actual.get("spec", {})
    for field, value in made["spec"].items():
        if field in CONTAINERS:
            for container in value:
                yield from _container_changes(field, _by("name", pod.get(field)).get(container["name"]), container)
        else:
            yield from (f"spec.{path}" for path in _field_changes(field, pod.get(field), value))


def _container_changes(field: str, actual: Mapping[str, Any] | None, made: Mapping[str, Any]) -> Iterator[str]:
    path = f"spec.{field}[{made['name']}]"
    if actual is None:
        yield path
        return
    for name, value in made.items():
        yield from (f"{path}.{changed}" for changed in _field_changes(name, actual.get(name), value))
    yield from (f"{path}.{name}" for name in EMPTY_UNLESS_MADE if name in actual and name not in made)


def _field_changes(field: str, actual: Any, made: Any) -> Iterator[str]:
    if field not in KEYED:
        if not has_all(actual, made):
            yield field
        return
    present = _by(KEYED[field], actual)
    yield from (f"{field}[{key}]" for key, item in _by(KEYED[field], made).items() if not has_all(present.get(key), item))


def has_all(actual: Any, made: Any) -> bool:
    """Whether ``actual`` has everything in ``made``; more keys do not matter, such as defaults of a later Kubernetes."""
    if isinstance(made, Mapping) and isinstance(actual, Mapping):
        return all(key in actual and has_all(actual[key], value) for key, value in made.items())
    if isinstance(made, list) and isinstance(actual, list):
        return len(made) == len(actual) and all(has_all(*pair) for pair in zip(actual, made, strict=True))
    return bool(actual == made)


def _restored_template(actual: Mapping[str, Any], made: Mapping[str, Any]) -> Object:
    """The change of a pod template, as a merge patch, that restores what was made and keeps what others added."""
    pod, spec = actual.get("spec", {}), {}
    for field, value in made["spec"].items():
        if field in CONTAINERS:
            spec[field] = _merged(pod.get(field), [_restored_container(pod.get(field), item) for item in value], "name")
        elif field in KEYED:
            spec[field] = _merged(pod.get(field), value, KEYED[field])
        else:
            spec[field] = value
    return {"metadata": {"labels": made["metadata"].get("labels", {})}, "spec": spec}


def _restored_container(containers: Sequence[Object] | None, made: Object) -> Object:
    actual = _by("name", containers).get(made["name"], {})
    added = {name: value for name, value in actual.items() if name not in made and name not in EMPTY_UNLESS_MADE}
    own = {name: _merged(actual.get(name), value, KEYED[name]) if name in KEYED else value for name, value in made.items()}
    return added | own


def _merged(actual: Sequence[Object] | None, made: Sequence[Object], key: str) -> list[Object]:
    """The items that were made, in their order, and after them those of others."""
    own = _by(key, made)
    return [*made, *(item for name, item in _by(key, actual).items() if name not in own)]


def _by(key: str, items: Sequence[Object] | None) -> dict[str, Object]:
    return {str(item.get(key)): item for item in items or ()}
