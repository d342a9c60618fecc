"""What Prometheus may ask the operator."""

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from subterra_api.job_contract.messages import Calls, Progress
from subterra_operator.labels import AGENT_LABEL, labels
from subterra_operator.resources import Key

REGISTRY = CollectorRegistry()
RECONCILES = Counter("subterra_reconcile_total", "Decisions carried out.", ["kind", "result"], registry=REGISTRY)
SECONDS = Histogram(
    "subterra_reconcile_seconds", "Time of one decision with its writes.", ["kind"], registry=REGISTRY,
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1, 2.5, 5, 10),
)  # fmt: skip
QUEUE = Gauge("subterra_queue_keys", "Keys that wait, those that are due later included.", registry=REGISTRY)
API_SILENCE = Gauge("subterra_api_silence_seconds", "Seconds since a heartbeat came back from the API server.", registry=REGISTRY)
RUN_PHASE = Gauge(
    "subterra_compilerun_phase", "1 for the phase that a run is in.", ["namespace", "run", "phase"], registry=REGISTRY
)
RUN_USD = Gauge("subterra_compilerun_usd", "What a run paid to providers.", ["namespace", "run", "agent"], registry=REGISTRY)
AGENT_CONDITION = Gauge(
    "subterra_compiledagent_condition", "1 when a condition of an agent is True, 0 when False, -1 when unknown.",
    ["namespace", "agent", "condition"], registry=REGISTRY,
)  # fmt: skip
AGENT_USD = Gauge(
    "subterra_compiledagent_usd_per_conversation", "Busy time of the serving pods for each conversation.", ["namespace", "agent"],
    registry=REGISTRY,
)  # fmt: skip

_STAGE = ["namespace", "run", "stage"]


def _stage_gauge(name: str, what: str) -> Gauge:
    return Gauge(f"subterra_compilerun_stage_{name}", what, _STAGE, registry=REGISTRY)


Figure = Callable[[Progress], float | None]


def _of_calls(read: Callable[[Calls], float | None]) -> Figure:
    """A figure of stages that pay a provider."""
    return lambda heard: None if heard.calls is None else read(heard.calls)


_TOLD: dict[Gauge, Figure] = {
    _stage_gauge("done", "Units that are done: conversations, steps."): lambda heard: heard.done,
    _stage_gauge("planned", "Units that are planned."): lambda heard: heard.planned,
    _stage_gauge("usd", "What the stage paid to providers, all attempts together."): lambda heard: float(heard.usd),
    _stage_gauge("tokens", "Tokens that it was billed for."): lambda heard: heard.tokens,
    _stage_gauge("calls", "Calls that a provider answered in this attempt."): _of_calls(lambda calls: calls.answered),
    _stage_gauge("max_usd", "The run's cap."): _of_calls(lambda calls: None if calls.max_usd is None else float(calls.max_usd)),
}
_NOW: dict[Gauge, Figure] = {
    _stage_gauge("eta_seconds", "Seconds that are probably left."): lambda heard: heard.eta_seconds,
    _stage_gauge("calls_per_minute", "Calls a minute, of the last 30 s."): _of_calls(lambda calls: calls.per_minute),
    _stage_gauge("calls_per_minute_limit", "Calls a minute that the account lets through."): _of_calls(lambda calls: calls.limit),
}
"""These are over when the stage's pod is."""
_VALUES = {"True": 1, "False": 0, "Unknown": -1}
_phases: dict[Key, str] = {}


def show(key: Key, status: Mapping[str, Any], subject: Mapping[str, Any]) -> None:
    """Makes the gauges of a resource say what its status says."""
    if key.kind == "CompileRun" and (phase := status.get("phase")):
        if _phases.get(key, phase) != phase:
            RUN_PHASE.remove(key.namespace, key.name, _phases[key])
        _phases[key] = phase
        RUN_PHASE.labels(key.namespace, key.name, phase).set(1)
        RUN_USD.labels(key.namespace, key.name, labels(subject).get(AGENT_LABEL, "")).set(float(status.get("usd", 0)))
    if key.kind == "CompiledAgent":
        for condition in status.get("conditions", []):
            AGENT_CONDITION.labels(key.namespace, key.name, condition["type"]).set(_VALUES[condition["status"]])
        if usd := (status.get("price") or {}).get("usdPerConversation"):
            AGENT_USD.labels(key.namespace, key.name).set(float(usd))


def tell(run: Key, heard: Progress) -> None:
    """Makes the gauges of a stage say what its pod says."""
    for gauge, figure in (_TOLD | _NOW).items():
        if (value := figure(heard)) is None:
            gauge.remove_by_labels({"namespace": run.namespace, "run": run.name, "stage": heard.stage})
        else:
            gauge.labels(run.namespace, run.name, heard.stage).set(value)


def hush(run: Key) -> None:
    """Takes out what is true only while a stage's pod runs."""
    for gauge in _NOW:
        gauge.remove_by_labels({"namespace": run.namespace, "run": run.name})


def forget(key: Key) -> None:
    """Takes a deleted resource out of the gauges."""
    _phases.pop(key, None)
    gauges = {"CompileRun": ("run", (RUN_PHASE, RUN_USD, *_TOLD, *_NOW)), "CompiledAgent": ("agent", (AGENT_CONDITION, AGENT_USD))}
    label, own = gauges.get(key.kind, ("", ()))
    for gauge in own:
        gauge.remove_by_labels({"namespace": key.namespace, label: key.name})
