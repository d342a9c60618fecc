"""The objects around an agent's Service that stay as they should be: who may call it, and how many pods a drain may take."""

from collections.abc import Mapping
from typing import Any

from subterra_api.v1alpha1.compiledagent import ServingSettings
from subterra_operator.decide.decision import Write
from subterra_operator.decide.namespace_policies import namespace_policies
from subterra_operator.settings import Settings
from subterra_operator.specs.traffic.disruption_budget import disruption_budget
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
