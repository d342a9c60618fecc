"""The objects around an agent's Service that stay as they should be: who may call it, what a drain may take, routes, pools."""

from collections.abc import Iterator, Mapping
from typing import Any

from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, ServingSettings
from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_api.v1alpha1.gateway import Canary
from subterra_operator.decide.agent.drift import has_all
from subterra_operator.decide.decision import ConditionBuilder, Write, patch
from subterra_operator.decide.namespace_policies import namespace_policies
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import AgentSnapshot, Observed
from subterra_operator.specs.traffic.disruption_budget import disruption_budget
from subterra_operator.specs.traffic.http_route import backends, canary_name, canary_service, http_route
from subterra_operator.specs.traffic.inference_pool import inference_pool
from subterra_operator.specs.traffic.network_policy import callers_policy

NO_POOLS = (
    "spec.serving.inferencePool needs InferencePools, and this cluster has none (inferencepools.inference.networking.k8s.io/v1), "
    "or does not let the operator see them (the agent's Service answers all the same); install the Gateway API Inference Extension "
    "(https://gateway-api-inference-extension.sigs.k8s.io) and this chart's roles, or remove the setting"
)


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
    """The HTTPRoute of an agent with `promotion.canary`, which gives ``canary`` its share, and before it that version's Service.

    A share that has lost its Service ends before another is made: it may be refused, and the name may be another agent's by now.
    """
    settings, agent, port = spec.promotion.canary, snapshot.agent, spec.serving.port
    if settings is None or snapshot.service is None or not snapshot.http_routes:
        return ()
    service = (_unless_same(snapshot.canary_service, canary_service(agent, port, canary.version)),) if canary else ()
    if ended := without_lost_share(snapshot):
        return tuple(write for write in (*ended, *service) if write)
    route = http_route(agent, settings, port, canary.weight if canary else None)
    return tuple(write for write in (*service, _unless_same(snapshot.route, route)) if write)


def without_lost_share(snapshot: AgentSnapshot) -> tuple[Write, ...]:
    """The write that takes a canary out of the agent's HTTPRoute if the Service that it names there is not the agent's."""
    name, route = snapshot.agent["metadata"]["name"], snapshot.route
    if route is None or snapshot.canary_service is not None or canary_name(name) not in backends(route):
        return ()
    rules = route["spec"]["rules"]
    own = [[{**each, "weight": 100} for each in rule.get("backendRefs") or () if each["name"] == name] for rule in rules]
    return (patch(route, {"spec": {"rules": [{**rule, "backendRefs": refs} for rule, refs in zip(rules, own, strict=True)]}}),)


def pool_writes(snapshot: AgentSnapshot, serving: ServingSettings, version: str | None) -> tuple[Write, ...]:
    """The InferencePool of an agent with `serving.inferencePool`, with the pods of ``version``."""
    settings, observed = serving.inference_pool, snapshot.inference_pool
    if settings is None or version is None or not snapshot.inference_pools:
        return ()
    wanted = inference_pool(snapshot.agent, settings, version)
    if observed is None:
        return (Write("create", wanted),)
    found, labels = (obj["spec"].get("selector", {}).get("matchLabels") or {} for obj in (observed, wanted))
    if found == labels and has_all(observed["spec"], wanted["spec"]):
        return ()
    only = {"matchLabels": dict.fromkeys(found) | labels}  # a merge patch keeps labels that it does not name
    return (patch(observed, {"spec": {**wanted["spec"], "selector": only}}),)


def pool_condition(
    snapshot: AgentSnapshot, serving: ServingSettings, version: str | None, make: ConditionBuilder
) -> tuple[Condition, ...]:
    """Whether requests through the InferencePool reach ``version``; nothing for an agent without `serving.inferencePool`."""
    if serving.inference_pool is None:
        return ()
    kind, pool = Type.INFERENCE_POOL_READY, snapshot.inference_pool
    named = f"InferencePool {snapshot.agent['metadata']['name']}"
    if not snapshot.inference_pools:
        return (make(kind, False, Reason.INFERENCE_POOL_BLOCKED, NO_POOLS),)
    if version is None or pool is None:
        text = f"{named} is being made" if version else f"{named} is made once a version has traffic"
        return (make(kind, None, Reason.PENDING, text),)
    if problems := _rejections(pool):
        picker = serving.inference_pool.endpoint_picker
        fix = f"check that Service {picker.name} exists here and has port {picker.port}, and that the gateway takes InferencePools"
        return (make(kind, False, Reason.INFERENCE_POOL_BLOCKED, f"{named}: {'; '.join(problems)}; {fix}"),)
    used = "" if _is_accepted(pool) else "; no gateway says that it uses it: name it as backend of an HTTPRoute"
    return (make(kind, True, Reason.INFERENCE_POOL_READY, f"{named} has the pods of version {version}{used}"),)


def _rejections(pool: Observed) -> list[str]:
    """What gateways have against the pool, in their words."""
    return [
        f"gateway {parent.get('parentRef', {}).get('name')} says {found['type']}={found['status']} "
        f"({found['reason']}: {found.get('message', '')})"
        for parent, found in _gateway_conditions(pool)
        if found["type"] in ("Accepted", "ResolvedRefs") and found["status"] == "False"
    ]


def _is_accepted(pool: Observed) -> bool:
    return any(found["type"] == "Accepted" and found["status"] == "True" for _, found in _gateway_conditions(pool))


def _gateway_conditions(pool: Observed) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Each gateway's conditions of the pool."""
    for parent in pool.get("status", {}).get("parents") or ():
        yield from ((parent, condition) for condition in parent.get("conditions") or ())


def disused_objects(snapshot: AgentSnapshot, spec: CompiledAgentSpec) -> tuple[Observed, ...]:
    """HTTPRoute and InferencePool of an agent that no longer asks for them; the operator may not delete Services."""
    route = snapshot.route if spec.promotion.canary is None else None
    pool = snapshot.inference_pool if spec.serving.inference_pool is None else None
    return tuple(obj for obj in (route, pool) if obj)


def _unless_same(observed: Observed | None, wanted: Object) -> Write | None:
    """The write that makes an object as wanted, `None` if it is."""
    if observed is None:
        return Write("create", wanted)
    same = all(observed["spec"].get(field) == value for field, value in wanted["spec"].items())
    return None if same else patch(observed, {"spec": wanted["spec"]})
