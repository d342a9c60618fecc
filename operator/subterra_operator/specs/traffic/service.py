"""The Service of an agent, which sends traffic to one of its versions."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from subterra_api.v1alpha1.conditions import timestamp
from subterra_operator.labels import AGENT_LABEL, SERVING_SINCE, VERSION_LABEL
from subterra_operator.resources import Object
from subterra_operator.specs.pod import new_object, owner_reference


def service(agent: Mapping[str, Any], port: int, version: str, now: datetime) -> Object:
    """The Service, with its traffic on ``version``."""
    name = agent["metadata"]["name"]
    annotations = {SERVING_SINCE: timestamp(now)}
    result = new_object("Service", agent["metadata"]["namespace"], name, {AGENT_LABEL: name}, annotations)
    result["metadata"]["ownerReferences"] = [owner_reference(agent)]
    result["spec"] = {"type": "ClusterIP", "selector": selector(name, version), "ports": ports(port)}
    return result


def ports(port: int) -> list[Object]:
    """The Service's one port."""
    return [{"name": "http", "port": port, "targetPort": "http", "protocol": "TCP"}]


def selector(agent: str, version: str) -> dict[str, str]:
    """Labels of the pods that get traffic."""
    return {AGENT_LABEL: agent, VERSION_LABEL: version}
