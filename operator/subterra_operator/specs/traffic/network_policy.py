"""NetworkPolicies of a namespace with agents: they allow only the traffic that a stage needs."""

from collections.abc import Mapping, Sequence
from typing import Any

from subterra_api.job_contract.environment import EXPORTER_PORT, PROGRESS_PORT, VLLM_PORT
from subterra_operator.labels import (
    AGENT_LABEL,
    CALLERS_LABEL,
    COMPONENT_LABEL,
    LISTED,
    MANAGED_BY,
    MANAGER,
    NODES_LABEL,
    RAY_LABEL,
    REGISTRY_LABEL,
    STAGE_LABEL,
)
from subterra_operator.resources import Object
from subterra_operator.settings import NetworkSettings, OpenAISettings, Settings, TracingSettings
from subterra_operator.specs.pod import new_object, owner_reference
from subterra_operator.specs.stage_env.ray_job import DASHBOARD_PORT, KUBERAY_LABELS

NAMESPACE = "kubernetes.io/metadata.name"
_TOGETHER: Object = {
    "matchLabels": {MANAGED_BY: MANAGER},
    "matchExpressions": [{"key": NODES_LABEL, "operator": "Exists"}],
}
"""Pods that work on a stage together: they reach each other at any port, since NCCL, gloo and Ray take free ones."""
_TOGETHER_PEER: Object = {"podSelector": _TOGETHER}


def network_policies(namespace: str, settings: Settings) -> list[Object]:
    """All policies of a namespace; no agent owns them."""
    return policies_of(namespace, settings.network, settings.openai, settings.tracing)


def policies_of(namespace: str, network: NetworkSettings, openai: OpenAISettings, tracing: TracingSettings) -> list[Object]:
    """The same, from the settings that they depend on."""
    if not network.enabled:
        return []
    all_pods = {"matchLabels": {MANAGED_BY: MANAGER}}
    anybody = [{"key": CALLERS_LABEL, "operator": "NotIn", "values": [LISTED]}]
    serving = {"matchLabels": {MANAGED_BY: MANAGER, COMPONENT_LABEL: "serving"}, "matchExpressions": anybody}
    teachers = [_to_namespace(name) for name in openai.namespaces]
    collector = [_to_namespace(tracing.namespace)] if tracing.namespace else []
    ray_head = {"matchLabels": {MANAGED_BY: MANAGER, RAY_LABEL: "head"}}
    kuberay = [{"namespaceSelector": {}, "podSelector": {"matchLabels": KUBERAY_LABELS}}]
    registry = {"matchLabels": {MANAGED_BY: MANAGER, REGISTRY_LABEL: "true"}}
    dns = [{"protocol": protocol, "port": port} for port in network.dns_ports for protocol in ("UDP", "TCP")]
    providers, hub = _to(network.provider_cidrs, network.ports), _to(network.hub_cidrs, network.ports)
    return [
        _policy(namespace, "subterra-default", all_pods, _monitoring(network), [{"ports": dns}]),
        _policy(namespace, "subterra-serving", serving, [{"ports": _tcp(VLLM_PORT), "from": [{"namespaceSelector": {}}]}], None),
        _policy(namespace, "subterra-providers", _stages("generate", "evaluate"), None, [providers, *teachers, *collector]),
        _policy(namespace, "subterra-hub", _stages("train"), None, [hub, *collector]),
        _policy(namespace, "subterra-registry", registry, None, [_to(network.registry_cidrs, network.ports)]),
        _policy(namespace, "subterra-nodes", _TOGETHER, [{"from": [_TOGETHER_PEER]}], [{"to": [_TOGETHER_PEER]}]),
        _policy(namespace, "subterra-ray", ray_head, [{"ports": _tcp(DASHBOARD_PORT), "from": kuberay}], None),
    ]


def callers_policy(agent: Mapping[str, Any], namespaces: Sequence[str]) -> Object:
    """The policy of an agent that names who may call it; of other pods than those with `CALLERS_LABEL` it says nothing."""
    name, namespace = agent["metadata"]["name"], agent["metadata"]["namespace"]
    pods = {"matchLabels": {AGENT_LABEL: name, COMPONENT_LABEL: "serving", CALLERS_LABEL: LISTED}}
    names = {"key": NAMESPACE, "operator": "In", "values": sorted(set(namespaces))}
    ingress = [{"ports": _tcp(VLLM_PORT), "from": [{"namespaceSelector": {"matchExpressions": [names]}}]}]
    policy = _policy(namespace, f"{name}-callers", pods, ingress, None)
    policy["metadata"]["ownerReferences"] = [owner_reference(agent)]
    return policy


def _monitoring(network: NetworkSettings) -> list[Object]:
    """Ingress of operator and Prometheus to the ports with progress, prices and metrics."""
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


def _to_namespace(name: str) -> Object:
    return {"to": [{"namespaceSelector": {"matchLabels": {NAMESPACE: name}}}]}


def _policy(namespace: str, name: str, pods: Object, ingress: list[Object] | None, egress: list[Object] | None) -> Object:
    """A policy; it does not restrict a direction that is `None`."""
    policy = new_object("NetworkPolicy", namespace, name, {})
    rules = {"ingress": ingress, "egress": egress}
    restricted = {kind: rule for kind, rule in rules.items() if rule is not None}
    policy["spec"] = {"podSelector": pods, "policyTypes": [kind.capitalize() for kind in restricted], **restricted}
    return policy
