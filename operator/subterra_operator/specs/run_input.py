"""The frozen input of a run."""

import json
from collections.abc import Mapping
from typing import Any

from subterra_api.job_contract.artifacts import ArtifactKeys
from subterra_api.job_contract.defaults import evaluation_of, keys_of_reevaluation
from subterra_api.job_contract.messages import RunIdentity, RunInput
from subterra_api.v1alpha1.compilerun import CompileRunSpec
from subterra_operator.labels import ARTIFACT_KEYS, BANNER, PROCEDURE_DIGEST, RUN_LABEL, TOOLS, annotations_of
from subterra_operator.resources import Object, owning_agent
from subterra_operator.specs.pod import new_object, owner_reference, truncate_name


def input_name(run: str) -> str:
    """``<run>-input``."""
    return truncate_name(f"{run}-input")


def identity_of(run: Mapping[str, Any]) -> RunIdentity:
    """Who a run's stages work for."""
    metadata = run["metadata"]
    return RunIdentity(name=metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"], agent=owning_agent(run))


def input_config_map(run: Mapping[str, Any], frozen: RunInput) -> Object:
    """An immutable ConfigMap. Annotations carry what the operator needs later, so that its cache need not keep the data."""
    name, namespace = run["metadata"]["name"], run["metadata"]["namespace"]
    annotations = {ARTIFACT_KEYS: json.dumps(frozen.keys.dump(), sort_keys=True), PROCEDURE_DIGEST: frozen.procedure_digest}
    if frozen.banner:
        annotations[BANNER] = frozen.banner
    if frozen.procedure.tools:
        annotations[TOOLS] = "true"
    result = new_object("ConfigMap", namespace, input_name(name), {RUN_LABEL: name}, annotations)
    result["metadata"]["ownerReferences"] = [owner_reference(run)]
    return result | {"immutable": True, "data": {"input.json": frozen.model_dump_json(by_alias=True)}}


def artifact_keys_of(config_map: Mapping[str, Any]) -> ArtifactKeys:
    """The artifact keys in a run's frozen input."""
    return ArtifactKeys.model_validate_json(annotations_of(config_map)[ARTIFACT_KEYS])


def keys_of_run(spec: CompileRunSpec, config_map: Mapping[str, Any]) -> ArtifactKeys:
    """The same for a run that may evaluate another run's model: then with the address of its own report."""
    keys = artifact_keys_of(config_map)
    return keys_of_reevaluation(keys, evaluation_of(spec.inputs.evaluation)) if spec.reevaluates else keys
