"""NetworkPolicies of a namespace with agents: nothing goes in or out but what a stage needs."""

from collections.abc import Sequence

from subterra_api.job_contract.environment import EXPORTER_PORT, PROGRESS_PORT, VLLM_PORT
from subterra_operator.labels import COMPONENT_LABEL, MANAGED_BY, MANAGER, STAGE_LABEL
from subterra_operator.resources import Object
from subterra_operator.settings import NetworkSettings, Settings
from subterra_operator.specs.pod import base

NAMESPACE = "kubernetes.io/metadata.name"
DNS_PORTS = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]


def policies(namespace: str, settings: Settings) -> list[Object]:
    """All policies; they belong to the namespace and to no agent."""
    if not settings.network.enabled:
        return []
    network = settings.network
    ours = {"matchLabels": {MANAGED_BY: MANAGER}}
    serving = {"matchLabels": {MANAGED_BY: MANAGER, COMPONENT_LABEL: "serving"}}
    inside = [{"to": [{"namespaceSelector": {"matchLabels": {NAMESPACE: name}}}]} for name in settings.openai.namespaces]
    providers, hub = _to(network.provider_cidrs, network.ports), _to(network.hub_cidrs, network.ports)
    return [
        _policy(namespace, "subterra-default", ours, _watchers(network), [{"ports": DNS_PORTS}]),
        _policy(namespace, "subterra-serving", serving, [{"ports": _tcp(VLLM_PORT), "from": [{"namespaceSelector": {}}]}], None),
        _policy(namespace, "subterra-providers", _stages("generate", "evaluate"), None, [providers, *inside]),
        _policy(namespace, "subterra-hub", _stages("train"), None, [hub]),
    ]


def _watchers(network: NetworkSettings) -> list[Object]:
    """Operator and Prometheus may ask for progress and prices."""
    namespaces = sorted({network.operator_namespace, network.prometheus_namespace})
    peers = [{"namespaceSelector": {"matchLabels": {NAMESPACE: name}}} for name in namespaces]
    return [{"ports": _tcp(PROGRESS_PORT, EXPORTER_PORT, VLLM_PORT), "from": peers}]


def _stages(*names: str) -> Object:
    return {
        "matchLabels": {MANAGED_BY: MANAGER},
        "matchExpressions": [{"key": STAGE_LABEL, "operator": "In", "values": list(names)}],
    }


def _tcp(*ports: int) -> list[Object]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def _to(cidrs: Sequence[str], ports: Sequence[int]) -> Object:
    return {"to": [{"ipBlock": {"cidr": cidr}} for cidr in cidrs], "ports": _tcp(*ports)}


def _policy(namespace: str, name: str, pods: Object, ingress: list[Object] | None, egress: list[Object] | None) -> Object:
    """A policy; a direction that is none is not its business."""
    policy = base("NetworkPolicy", namespace, name, {})
    rules = {"ingress": ingress, "egress": egress}
    given = {kind: rule for kind, rule in rules.items() if rule is not None}
    policy["spec"] = {"podSelector": pods, "policyTypes": [kind.capitalize() for kind in given], **given}
    return policy
