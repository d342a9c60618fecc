"""The objects around an agent's Service that stay as they should be: who may call it, how many pods a drain may take, routes."""

from collections.abc import Mapping
from typing import Any

from subterra_api.v1alpha1.canary import Canary
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, ServingSettings
from subterra_operator.decide.decision import Write, patch
from subterra_operator.decide.namespace_policies import namespace_policies
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot, Observed
from subterra_operator.specs.traffic.disruption_budget import disruption_budget
from subterra_operator.specs.traffic.http_route import canary_service, http_route
from subterra_operator.specs.traffic.network_policy import callers_policy


def policies(agent: Mapping[str, Any], serving: ServingSettings, settings: Settings) -> tuple[Write, ...]:
    """The NetworkPolicies of the namespace, and the agent's own if it names who may call it."""
    shared = namespace_policies(agent["metadata"]["namespace"], settings)
    if serving.allowed_namespaces is None or not shared:
        return shared
    own = callers_policy(agent, serving.allowed_namespaces)
    return (*shared, Write("apply", own, group="policies"))


def budgets(agent: Mapping[str, Any], serving: ServingSettings, version: str | None) -> tuple[Write, ...]:
    """The PodDisruptionBudget of the version with traffic, where there is a replica to spare."""
    if version is None or serving.replicas < 2:
        return ()
    return (Write("apply", disruption_budget(agent, version), group="disruption budget"),)


def routing(snapshot: AgentSnapshot, spec: CompiledAgentSpec, canary: Canary | None) -> tuple[Write, ...]:
    """The HTTPRoute of an agent with `promotion.canary`, which gives ``canary`` its share, and before it that version's Service."""
    settings, agent, port = spec.promotion.canary, snapshot.agent, spec.serving.port
    if settings is None or snapshot.service is None or not snapshot.http_routes:
        return ()
    service = (_unless_same(snapshot.canary_service, canary_service(agent, port, canary.version)),) if canary else ()
    route = http_route(agent, settings, port, canary.weight if canary else None)
    return tuple(write for write in (*service, _unless_same(snapshot.route, route)) if write)


def unwanted_route(snapshot: AgentSnapshot, spec: CompiledAgentSpec) -> tuple[Observed, ...]:
    """The HTTPRoute of an agent that no longer has `promotion.canary`."""
    return (snapshot.route,) if snapshot.route and spec.promotion.canary is None else ()


def _unless_same(observed: Observed | None, wanted: Object) -> Write | None:
    """The write that makes an object as wanted, `None` if it is."""
    if observed is None:
        return Write("create", wanted)
    same = all(observed["spec"].get(field) == value for field, value in wanted["spec"].items())
    return None if same else patch(observed, {"spec": wanted["spec"]})
