"""The frozen input of a run."""

import json
from collections.abc import Mapping
from typing import Any

from subterra_api.job_contract.artifacts import ArtifactKeys
from subterra_api.job_contract.messages import RunInput
from subterra_operator.labels import BANNER, DIGEST, KEYS, RUN_LABEL, annotations
from subterra_operator.resources import Object
from subterra_operator.specs.pod import base, fitted, owner


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
