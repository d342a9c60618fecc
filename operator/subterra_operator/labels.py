"""Every label and annotation that the operator writes or reads."""

from collections.abc import Mapping
from typing import Any

from subterra_api.v1alpha1 import GROUP

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "subterra"
AGENT_LABEL = f"{GROUP}/agent"
RUN_LABEL = f"{GROUP}/run"
STAGE_LABEL = f"{GROUP}/stage"
VERSION_LABEL = f"{GROUP}/version"
COMPONENT_LABEL = "app.kubernetes.io/component"
RETRY_AT = f"{GROUP}/retryAt"

SUPERSEDED_BY = f"{GROUP}/supersededBy"
"""On a run: what is wanted instead, another run or ``spec.model``. Its author is the agent."""

SUSPENDED_BY_US = f"{GROUP}/suspended"
"""On a Job: the operator suspended it, so the operator resumes it. Kueue suspends Jobs too."""

APPLIED = f"{GROUP}/applied"
"""On an applied object: digest of what we applied. It tells a later operator that nothing we once wanted is to be taken away."""

MODEL_DIGEST = f"{GROUP}/model-digest"
MODEL_PATH = f"{GROUP}/model-path"
RUN = f"{GROUP}/run"
STARTED_AT = f"{GROUP}/startedAt"
"""When the version was last asked to run; its progress deadline counts from here."""
FAILED = f"{GROUP}/failed"
"""Why the version was given up; nobody starts it again until a person asks."""
SERVING_SINCE = f"{GROUP}/servingSince"
"""On the Service: when traffic last moved."""

KEYS = f"{GROUP}/artifact-keys"
DIGEST = f"{GROUP}/procedure-digest"
BANNER = f"{GROUP}/banner"

ATTEMPT = f"{GROUP}/attempt"
ATTACH = f"{GROUP}/attach"


def labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """An object's labels, perhaps none."""
    found: Mapping[str, str] = obj["metadata"].get("labels") or {}
    return found


def annotations(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """An object's annotations, perhaps none."""
    found: Mapping[str, str] = obj["metadata"].get("annotations") or {}
    return found


BEAT = f"{GROUP}/beat"
