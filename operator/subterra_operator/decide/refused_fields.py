"""Which field an author must correct when the API server rejects one of an object that the operator built."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from subterra_operator.decide.decision import Write
from subterra_operator.labels import STAGE_LABEL, labels_of
from subterra_operator.resources import JOB_KINDS
from subterra_operator.snapshot import Observed

MOST_FIELDS = 3
_REJECTED = re.compile(r"((?:spec|metadata)\.[^\s:]+): [A-Z]")
"""A field in the API server's message, such as `spec.template.spec.tolerations[0].operator: Unsupported value`."""
_FROM_THE_AUTHOR = ("tolerations", "resources", "nodeSelector", "activeDeadlineSeconds", "replicas")
_FROM_THE_CHART = {
    "PersistentVolumeClaim": {
        "resources": "store.size",
        "storageClassName": "store.storageClass",
        "accessModes": "store.accessMode",
    },
    "NetworkPolicy": {"cidr": "networkPolicies.providerCidrs, .hubCidrs or .registryCidrs"},
    "Job": {"imagePull": "the images", "image": "the images", "env": "the providers' settings"},
    "JobSet": {"imagePull": "the images", "image": "the images", "env": "the providers' settings"},
    "RayJob": {"imagePull": "the images", "image": "the images", "env": "the providers' settings"},
    "Deployment": {"imagePull": "the images", "image": "the images"},
}


def fields_to_correct(write: Write, subject: Observed, message: str) -> list[str]:
    """The author's or administrator's fields behind those that ``message`` rejects; without any, where to look."""
    paths = list(dict.fromkeys(match[1] for match in _REJECTED.finditer(message)))[:MOST_FIELDS]
    found = list(dict.fromkeys(field for path in paths for field in _origins(write, subject, path)))
    return found or [f"the field that it names, in {_author(subject)} or in the chart's values"]


def _origins(write: Write, subject: Observed, path: str) -> Iterator[str]:
    kind = write.key.kind
    if kind == "CompileRun":
        yield f"{_run_field(path, subject)} of {_author(subject)}"
    elif kind in JOB_KINDS and path.startswith("metadata.labels"):
        yield f"{_base(subject)}.queueName of {_author(subject)}"
    elif kind in (*JOB_KINDS, "Deployment") and (name := _part(path, _FROM_THE_AUTHOR)):
        default = name == "resources" and not _pod_settings(write, subject).get("resources")
        yield "defaults.resources in the chart's values" if default else f"{_pod_path(write, subject)}.{name} of {_author(subject)}"
    elif value := next((text for part, text in _FROM_THE_CHART.get(kind, {}).items() if part in path), None):
        yield f"{value} in the chart's values"


def _part(path: str, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if re.search(rf"\.{name}\b", path)), None)


def _pod_settings(write: Write, subject: Observed) -> Mapping[str, Any]:
    """What the author set for the refused pod; empty when all is default."""
    stage, spec = labels_of(write.object).get(STAGE_LABEL), subject["spec"]
    settings = (spec.get("execution") or {}).get(stage) if stage else spec.get("serving")
    return settings or {}


def _pod_path(write: Write, subject: Observed) -> str:
    """Path of these settings in the object that the author edits."""
    stage = labels_of(write.object).get(STAGE_LABEL)
    return f"{_base(subject)}.{stage}" if stage else "spec.serving"


def _base(subject: Observed) -> str:
    """Path of a run's execution settings in the object that its author edits."""
    return "spec.compile.template.execution" if _agent_of(subject) else "spec.execution"


def _run_field(path: str, subject: Observed) -> str:
    """A run's field in the agent that wants the run."""
    return re.sub(r"^spec\.(inputs\.)?", "spec.compile.template.", path) if subject["kind"] == "CompiledAgent" else path


def _author(subject: Observed) -> str:
    """The object that a person edits: the agent of a run, if it has one."""
    agent = _agent_of(subject)
    return f"CompiledAgent {agent}" if agent else f"{subject['kind']} {subject['metadata']['name']}"


def _agent_of(subject: Observed) -> str | None:
    owners: list[Mapping[str, Any]] = subject["metadata"].get("ownerReferences") or []
    name = next((owner["name"] for owner in owners if owner.get("controller") and owner["kind"] == "CompiledAgent"), None)
    return str(name) if name else None
