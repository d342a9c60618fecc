"""The InferencePool of an agent: the pods of one version, and the endpoint picker that a gateway asks which of them to call."""

from collections.abc import Mapping
from typing import Any

from subterra_api.job_contract.environment import VLLM_PORT
from subterra_api.v1alpha1.gateway import InferencePoolSettings
from subterra_operator.labels import AGENT_LABEL
from subterra_operator.resources import Object
from subterra_operator.specs.pod import new_object, owner_reference
from subterra_operator.specs.traffic.service import selector


def inference_pool(agent: Mapping[str, Any], settings: InferencePoolSettings, version: str) -> Object:
    """The pool with the pods of ``version``; ports are those of pods, not of the agent's Service."""
    name, picker = agent["metadata"]["name"], settings.endpoint_picker
    result = new_object("InferencePool", agent["metadata"]["namespace"], name, {AGENT_LABEL: name})
    result["metadata"]["ownerReferences"] = [owner_reference(agent)]
    result["spec"] = {
        "selector": {"matchLabels": selector(name, version)},
        "targetPorts": [{"number": VLLM_PORT}],
        "endpointPickerRef": {
            "group": "",
            "kind": "Service",
            "name": picker.name,
            "port": {"number": picker.port},
            "failureMode": picker.failure_mode,
        },
    }
    return result
