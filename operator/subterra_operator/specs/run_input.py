"""The frozen input of a run."""

import json
from collections.abc import Mapping
from typing import Any

from subterra_api.job_contract.messages import ArtifactKeys, RunInput
from subterra_api.v1alpha1 import GROUP
from subterra_operator.resources import RUN_LABEL, Object, annotations
from subterra_operator.specs.pod import base, fitted, owner

KEYS = f"{GROUP}/artifact-keys"
DIGEST = f"{GROUP}/procedure-digest"
BANNER = f"{GROUP}/banner"


def input_name(run: str) -> str:
    """``<run>-input``."""
    return fitted(f"{run}-input")


def input_map(run: Mapping[str, Any], frozen: RunInput) -> Object:
    """An immutable ConfigMap. What the operator itself needs later is in annotations, so that it need not remember the data."""
    metadata = run["metadata"]
    notes = {KEYS: json.dumps(frozen.keys.dump(), sort_keys=True), DIGEST: frozen.procedure_digest}
    if frozen.banner:
        notes[BANNER] = frozen.banner
    result = base("ConfigMap", metadata["namespace"], input_name(metadata["name"]), {RUN_LABEL: metadata["name"]}, notes)
    result["metadata"]["ownerReferences"] = [owner(run)]
    return result | {"immutable": True, "data": {"input.json": frozen.model_dump_json(by_alias=True)}}


def keys_of(config_map: Mapping[str, Any]) -> ArtifactKeys:
    """The content addresses that an input names."""
    return ArtifactKeys.model_validate_json(annotations(config_map)[KEYS])
