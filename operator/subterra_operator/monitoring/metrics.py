"""The operator's Prometheus metrics."""

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from subterra_api.job_contract.messages import Calls, Progress
from subterra_api.v1alpha1.compiledagent import Price
from subterra_api.v1alpha1.conditions import Type
from subterra_operator.resources import Key, owning_agent

REGISTRY = CollectorRegistry()
RECONCILES = Counter("subterra_reconcile_total", "Reconciles by result.", ["kind", "result"], registry=REGISTRY)
RECONCILE_SECONDS = Histogram(
    "subterra_reconcile_seconds",
    "Duration of a reconcile, including its writes.",
    ["kind"],
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1, 2.5, 5, 10),
)
QUEUE_KEYS = Gauge("subterra_queue_keys", "Keys in the work queue, including those due later.", registry=REGISTRY)
API_SILENCE = Gauge(
    "subterra_api_silence_seconds",
    "Seconds for which the watches have delivered no heartbeat although the API server responds.",
    registry=REGISTRY,
)
WATCH_RESTARTS = Counter(
    "subterra_watch_restarts_total", "How often all watches were started again within the process.", registry=REGISTRY
)
LEADER = Gauge("subterra_leader", "1 if this operator may write, because it holds the Lease.", registry=REGISTRY)
REFUSED_WRITES = Counter(
    "subterra_refused_writes_total", "Writes that were not sent because the Lease was not renewed in time.", registry=REGISTRY
)
RUN_PHASE = Gauge("subterra_compilerun_phase", "1 for the phase of a run.", ["namespace", "run", "phase"], registry=REGISTRY)
RUN_USD = Gauge(
    "subterra_compilerun_usd", "Cost of a run's API calls in US dollars.", ["namespace", "run", "agent"], registry=REGISTRY
)
AGENT_CONDITION = Gauge(
    "subterra_compiledagent_condition",
    "1 if a condition of an agent is True, 0 if False, -1 if Unknown.",
    ["namespace", "agent", "condition"],
    registry=REGISTRY,
)
AGENT_USD = Gauge(
    "subterra_compiledagent_usd_per_conversation",
    "Cost of the serving pods' busy time per conversation in US dollars.",
    ["namespace", "agent"],
    registry=REGISTRY,
)
AGENT_USD_WITH_IDLE = Gauge(
    "subterra_compiledagent_usd_per_conversation_with_idle",
    "Cost of all time of the serving pods per conversation in US dollars.",
    ["namespace", "agent"],
    registry=REGISTRY,
)
AGENT_CONVERSATIONS = Gauge(
    "subterra_compiledagent_conversations",
    "Conversations on which the prices are measured, since the serving pods started.",
    ["namespace", "agent"],
    registry=REGISTRY,
)


def _stage_gauge(name: str, description: str) -> Gauge:
    labels = ["namespace", "run", "stage"]
    return Gauge(f"subterra_compilerun_stage_{name}", description, labels, registry=REGISTRY)


Reading = Callable[[Progress], float | None]
"""Reads a gauge's value from a stage's progress; `None` removes the gauge."""


def _of_calls(read: Callable[[Calls], float | None]) -> Reading:
    """A reading of stages that call providers."""
    return lambda progress: None if progress.calls is None else read(progress.calls)


_LASTING: dict[Gauge, Reading] = {
    _stage_gauge("done", "Units that are done: conversations, steps."): lambda progress: progress.done,
    _stage_gauge("planned", "Units that are planned."): lambda progress: progress.planned,
    _stage_gauge("usd", "Cost of the stage's API calls in US dollars, over all attempts."): lambda progress: float(progress.usd),
    _stage_gauge("tokens", "Billed tokens of the stage."): lambda progress: progress.tokens,
    _stage_gauge("calls", "Successful API calls in this attempt."): _of_calls(lambda calls: calls.answered),
    _stage_gauge("max_usd", "The run's cap."): _of_calls(lambda calls: None if calls.max_usd is None else float(calls.max_usd)),
}
_LIVE: dict[Gauge, Reading] = {
    _stage_gauge("eta_seconds", "Estimated seconds until the stage is done."): lambda progress: progress.eta_seconds,
    _stage_gauge("calls_per_minute", "API calls per minute, over the last 30 s."): _of_calls(lambda calls: calls.per_minute),
    _stage_gauge("calls_per_minute_limit", "The account's limit of API calls per minute."): _of_calls(lambda calls: calls.limit),
}
"""Valid only while the stage's pod runs."""
_CONDITION_VALUES = {"True": 1, "False": 0, "Unknown": -1}
_phases: dict[Key, str] = {}


def record_status(key: Key, status: Mapping[str, Any], subject: Mapping[str, Any]) -> None:
    """Sets a resource's gauges from its status."""
    if key.kind == "CompileRun" and (phase := status.get("phase")):
        if _phases.get(key, phase) != phase:
            RUN_PHASE.remove(key.namespace, key.name, _phases[key])
        _phases[key] = phase
        RUN_PHASE.labels(key.namespace, key.name, phase).set(1)
        RUN_USD.labels(key.namespace, key.name, owning_agent(subject) or "").set(float(status.get("usd", 0)))
    if key.kind == "CompiledAgent":
        present = {condition["type"] for condition in status.get("conditions", [])}
        if present and Type.MODEL_RETIREMENT not in present:
            labels = {"namespace": key.namespace, "agent": key.name, "condition": Type.MODEL_RETIREMENT.value}
            AGENT_CONDITION.remove_by_labels(labels)
        for condition in status.get("conditions", []):
            value = _CONDITION_VALUES[condition["status"]]
            AGENT_CONDITION.labels(key.namespace, key.name, condition["type"]).set(value)


def record_price(agent: Key, price: Price) -> None:
    """Sets an agent's gauges from its price; removes those without a value."""
    values = {
        AGENT_USD: price.usd_per_conversation,
        AGENT_USD_WITH_IDLE: price.usd_per_conversation_with_idle,
        AGENT_CONVERSATIONS: price.conversations,
    }
    for gauge, value in values.items():
        if value is None:
            gauge.remove_by_labels({"namespace": agent.namespace, "agent": agent.name})
        else:
            gauge.labels(agent.namespace, agent.name).set(float(value))


def record_progress(run: Key, progress: Progress) -> None:
    """Sets a stage's gauges from its pod's progress."""
    for gauge, reading in (_LASTING | _LIVE).items():
        if (value := reading(progress)) is None:
            gauge.remove_by_labels({"namespace": run.namespace, "run": run.name, "stage": progress.stage})
        else:
            gauge.labels(run.namespace, run.name, progress.stage).set(value)


def clear_live(run: Key) -> None:
    """Removes the gauges that are valid only while a stage's pod runs."""
    for gauge in _LIVE:
        gauge.remove_by_labels({"namespace": run.namespace, "run": run.name})


def remove_all() -> None:
    """Removes the gauges of all resources, which only the leader reports."""
    _phases.clear()
    for gauge in (RUN_PHASE, RUN_USD, AGENT_CONDITION, AGENT_USD, *_LASTING, *_LIVE):
        gauge.clear()
    QUEUE_KEYS.set(0)


def remove(key: Key) -> None:
    """Removes all gauges of a deleted resource."""
    _phases.pop(key, None)
    gauges_by_kind = {
        "CompileRun": ("run", (RUN_PHASE, RUN_USD, *_LASTING, *_LIVE)),
        "CompiledAgent": ("agent", (AGENT_CONDITION, AGENT_USD, AGENT_USD_WITH_IDLE, AGENT_CONVERSATIONS)),
    }
    label, gauges = gauges_by_kind.get(key.kind, ("", ()))
    for gauge in gauges:
        gauge.remove_by_labels({"namespace": key.namespace, label: key.name})
