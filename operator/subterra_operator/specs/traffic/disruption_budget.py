"""The PodDisruptionBudget of an agent with several replicas: drains of nodes evict its pods one at a time."""

from collections.abc import Mapping
from typing import Any

from subterra_operator.labels import AGENT_LABEL
from subterra_operator.resources import Object
from subterra_operator.specs.pod import new_object, owner_reference
from subterra_operator.specs.traffic.service import selector


def disruption_budget(agent: Mapping[str, Any], version: str) -> Object:
    """The budget of the version with traffic: at most one of its pods may be missing. With one replica it would change nothing."""
    name = agent["metadata"]["name"]
    result = new_object("PodDisruptionBudget", agent["metadata"]["namespace"], name, {AGENT_LABEL: name})
    result["metadata"]["ownerReferences"] = [owner_reference(agent)]
    result["spec"] = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector(name, version)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",  # pods that do not answer must not hold up a drain
    }
    return result
