"""Metrics of agents: what their status says, and what their conversations cost."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from subterra_api.v1alpha1.compiledagent import CompiledAgentStatus, CostSettings
from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_core.serving_costs.conversation_costs import ConversationCosts
from subterra_operator.monitoring.series import ResourceGauges, Sample
from subterra_operator.resources import Key

_STATUS = ResourceGauges(
    "compiledagent_phase",
    "compiledagent_condition",
    "compiledagent_condition_reason",
    "compiledagent_info",
    "compiledagent_candidate_verdict",
    "compiledagent_status_timestamp_seconds",
    "compiledagent_wanted_replicas",
    "compiledagent_ready_replicas",
    "compiledagent_usd_per_hour",
)
_COSTS = ResourceGauges(
    "compiledagent_conversations",
    "compiledagent_usd_per_conversation",
    "compiledagent_usd_per_conversation_with_idle",
    "compiledagent_prefill_usd_per_million_tokens",
    "compiledagent_decode_usd_per_million_tokens",
    "compiledagent_compile_usd",
    "compiledagent_comparator_usd_per_conversation",
    "compiledagent_break_even_conversations",
)
_WANTED: Mapping[str, str] = {
    **dict.fromkeys((Type.READY, Type.UP_TO_DATE, Type.REEVALUATED, Type.INFERENCE_POOL_READY), "True"),
    **dict.fromkeys((Type.STALLED, Type.MODEL_RETIREMENT, Type.DRIFTING), "False"),
}
"""The status of each condition that nobody has to look at."""
_WORSE = (Reason.VERDICT_WORSENED, Reason.VERDICT_UNCERTAIN)
"""Reasons that somebody has to look at, whatever the status of their condition."""
_versions: dict[Key, str] = {}
"""The version that the costs of an agent are about."""


def record_agent(key: Key, status: Mapping[str, Any], subject: Mapping[str, Any], now: datetime) -> None:
    """Sets an agent's gauges from its status; costs of a version without traffic are removed."""
    if not status.get("conditions"):
        return
    parsed = CompiledAgentStatus.model_validate(status)
    _STATUS.report(key, _samples(key.name, parsed, subject["spec"], now))
    if key in _versions and _versions[key] != (parsed.serving.version if parsed.serving else None):
        _forget_costs(key)


def _samples(agent: str, status: CompiledAgentStatus, spec: Mapping[str, Any], now: datetime) -> Iterator[Sample]:
    yield Sample("compiledagent_phase", (agent, status.phase or ""), 1)
    yield Sample("compiledagent_status_timestamp_seconds", (agent,), now.timestamp())
    yield Sample("compiledagent_wanted_replicas", (agent,), spec.get("serving", {}).get("replicas", 1))
    yield Sample("compiledagent_ready_replicas", (agent,), status.replicas or 0)
    hourly = spec.get("cost", {}).get("usdPerHour", CostSettings().usd_per_hour)
    yield Sample("compiledagent_usd_per_hour", (agent,), float(hourly))
    for condition in status.conditions:
        yield Sample("compiledagent_condition", (agent, condition.type, condition.status), 1)
        if _WANTED.get(condition.type, condition.status) != condition.status or condition.reason in _WORSE:
            yield Sample("compiledagent_condition_reason", (agent, condition.type, condition.reason), 1)
    if serving := status.serving:
        yield Sample("compiledagent_info", (agent, serving.version, serving.model_digest, serving.run or ""), 1)
    if (candidate := status.candidate) and candidate.verdict:
        yield Sample("compiledagent_candidate_verdict", (agent, candidate.run or "", candidate.verdict.result), 1)


def record_costs(key: Key, version: str, costs: ConversationCosts) -> None:
    """Sets what the conversations of an agent's version cost."""
    _versions[key] = version
    _COSTS.report(key, _cost_samples((key.name, version), costs))


def _cost_samples(version: tuple[str, str], costs: ConversationCosts) -> Iterator[Sample]:
    def number(value: Decimal | None) -> float | None:
        return None if value is None else float(value)

    tokens = costs.token_price
    yield Sample("compiledagent_conversations", version, costs.work.conversations)
    yield Sample("compiledagent_usd_per_conversation", version, number(costs.busy))
    yield Sample("compiledagent_usd_per_conversation_with_idle", version, number(costs.with_idle))
    yield Sample("compiledagent_prefill_usd_per_million_tokens", version, number(tokens.input) if tokens else None)
    yield Sample("compiledagent_decode_usd_per_million_tokens", version, number(tokens.output) if tokens else None)
    yield Sample("compiledagent_compile_usd", version, number(costs.compile_usd))
    for each in costs.compared:
        labels = (*version, each.comparator, each.model)
        yield Sample("compiledagent_comparator_usd_per_conversation", labels, number(each.usd))
        yield Sample("compiledagent_break_even_conversations", labels, number(costs.break_even(each)))


def _forget_costs(key: Key) -> None:
    _versions.pop(key, None)
    _COSTS.remove(key)


def forget(key: Key) -> None:
    """Removes all gauges of a deleted agent."""
    _STATUS.remove(key)
    _forget_costs(key)


def forget_all() -> None:
    """Removes what is measured of all agents."""
    _versions.clear()
    _STATUS.clear()
    _COSTS.clear()
