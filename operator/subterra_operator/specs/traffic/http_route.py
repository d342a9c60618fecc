"""What a canary needs: a Service with the new version's pods, and the HTTPRoute that shares requests between both Services.

Everything that the API server would default is spelled out, so that a stored object can be compared with the wanted one.
"""

from collections.abc import Mapping
from typing import Any

from subterra_api.v1alpha1.gateway import CanarySettings
from subterra_operator.labels import AGENT_LABEL
from subterra_operator.resources import KINDS, Object
from subterra_operator.specs.pod import new_object, owner_reference
from subterra_operator.specs.traffic.service import ports, selector

CANARY = "-canary"
"""What the name of a canary's Service has after the agent's. Agents may have such names too, and then want the same Service."""
_ALL = [{"path": {"type": "PathPrefix", "value": "/"}}]


def canary_name(agent: str) -> str:
    """``<agent>-canary``."""
    return f"{agent}{CANARY}"


def backends(route: Mapping[str, Any]) -> set[str]:
    """Names of the Services to which a route sends requests."""
    return {backend["name"] for rule in route["spec"].get("rules") or () for backend in rule.get("backendRefs") or ()}


def canary_service(agent: Mapping[str, Any], port: int, version: str) -> Object:
    """The Service of the version that has a share of the traffic."""
    name = agent["metadata"]["name"]
    result = _owned("Service", agent, canary_name(name))
    result["spec"] = {"selector": selector(name, version), "ports": ports(port)}
    return result


def http_route(agent: Mapping[str, Any], settings: CanarySettings, port: int, weight: int | None) -> Object:
    """The route of requests to the agent's Service, with a canary all but ``weight`` percent, which go to the canary's Service."""
    name, gateway = agent["metadata"]["name"], settings.gateway
    parent = {
        "group": KINDS["HTTPRoute"].group,
        "kind": "Gateway",
        "namespace": gateway.namespace or agent["metadata"]["namespace"],
        "name": gateway.name,
        **({"sectionName": gateway.section_name} if gateway.section_name else {}),
    }
    shares = {name: 100} if weight is None else {name: 100 - weight, canary_name(name): weight}
    result = _owned("HTTPRoute", agent, name)
    result["spec"] = {
        "parentRefs": [parent],
        "hostnames": [*settings.hostnames],
        "rules": [{"matches": _ALL, "backendRefs": [_backend(service, port, share) for service, share in shares.items()]}],
    }
    return result


def _backend(service: str, port: int, weight: int) -> Object:
    return {"group": "", "kind": "Service", "name": service, "port": port, "weight": weight}


def _owned(kind: str, agent: Mapping[str, Any], name: str) -> Object:
    result = new_object(kind, agent["metadata"]["namespace"], name, {AGENT_LABEL: agent["metadata"]["name"]})
    result["metadata"]["ownerReferences"] = [owner_reference(agent)]
    return result
