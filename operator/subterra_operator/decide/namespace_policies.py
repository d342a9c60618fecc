"""The writes that keep a namespace's NetworkPolicies: built and hashed once, however many agents serve there."""

from functools import lru_cache

from subterra_operator.decide.decision import Write
from subterra_operator.settings import NetworkSettings, OpenAISettings, Settings, TracingSettings
from subterra_operator.specs.traffic.network_policy import policies_of

NAMESPACES = 1024
"""Namespaces whose writes are kept; those of others are built again."""


def namespace_policies(namespace: str, settings: Settings) -> tuple[Write, ...]:
    """The same objects for every agent of a namespace, so that their digests are computed once."""
    return _writes(namespace, settings.network, settings.openai, settings.tracing)


@lru_cache(maxsize=NAMESPACES)
def _writes(namespace: str, network: NetworkSettings, openai: OpenAISettings, tracing: TracingSettings) -> tuple[Write, ...]:
    return tuple(Write("apply", policy, group="policies") for policy in policies_of(namespace, network, openai, tracing))
