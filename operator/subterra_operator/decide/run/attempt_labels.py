"""Which stage and attempt a Job is for, by its labels; by its name where somebody has taken them away or changed them."""

import re

from subterra_api.job_contract.artifacts import STAGES
from subterra_operator.labels import ATTACH_LABEL, ATTEMPT_LABEL, NODES_LABEL, STAGE_LABEL, labels_of
from subterra_operator.snapshot import Observed

_JOB_NAME = re.compile(rf"-(?P<stage>{'|'.join(STAGES)})-(?P<attempt>[0-9]+)(?P<attach>-attach)?$")


def attempt_of(job: Observed) -> int:
    """Number of the attempt that a Job makes."""
    label = labels_of(job).get(ATTEMPT_LABEL, "")
    return int(label) if label.isdecimal() else int(_in_name(job).get("attempt") or 0)


def is_attach(job: Observed) -> bool:
    """Whether a Job only reads a result back."""
    label = labels_of(job).get(ATTACH_LABEL)
    return label == "true" if label in ("true", "false") else bool(_in_name(job).get("attach"))


def stage_of(job: Observed) -> str | None:
    """The stage that a Job works on."""
    label = labels_of(job).get(STAGE_LABEL)
    return label if label in STAGES else _in_name(job).get("stage")


def pod_count(job: Observed) -> int:
    """Number of pods that work together; 1 if somebody has taken the label away or changed it."""
    label = labels_of(job).get(NODES_LABEL, "")
    return int(label) if label.isdecimal() else 1


def _in_name(job: Observed) -> dict[str, str | None]:
    """What a Job's name says of stage and attempt; nothing if it had to be cut."""
    found = _JOB_NAME.search(job["metadata"]["name"])
    return found.groupdict() if found else {}
