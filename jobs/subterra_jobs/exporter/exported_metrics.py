"""The exporter's page for Prometheus: values of the meter under the names of the table of metrics."""

from collections.abc import Iterator, Mapping
from decimal import Decimal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from subterra_api.job_contract.messages import ServedWork
from subterra_core.monitoring.metric_table import metrics_of
from subterra_core.serving_costs.serving_price import HOUR, busy_price, measured_token_price, price_with_idle
from subterra_jobs.exporter.monitor_files import MonitorFiles

Values = Mapping[tuple[str, ...], float | Decimal | None]
"""By the labels after `model_digest`; `None` leaves a series out."""


def families(
    work: ServedWork, usd_per_hour: Decimal, model_digest: str, served: MonitorFiles | None = None, *, vllm_up: bool
) -> Iterator[Metric]:
    """All metrics of the exporter, in the table's order. Raises KeyError for one in the table without a value."""
    values = {**_values(work, usd_per_hour, vllm_up=vllm_up), **_monitored(served)}
    for metric in metrics_of("exporter"):
        family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        found: Metric = family(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
        for labels, value in values[metric.name.removeprefix("subterra_serving_")].items():
            if value is not None:
                found.add_metric([model_digest, *labels], float(value))  # type: ignore[attr-defined]
        yield found


def _values(work: ServedWork, usd_per_hour: Decimal, *, vllm_up: bool) -> Mapping[str, Values]:
    tokens = measured_token_price(work, usd_per_hour)
    return {
        "vllm_up": {(): float(vllm_up)},
        "usd_per_hour": {(): usd_per_hour},
        "usd_total": {(): usd_per_hour * Decimal(str(work.seconds)) / HOUR},
        "busy_seconds_total": {(): work.busy_seconds},
        "idle_seconds_total": {(): work.seconds - work.busy_seconds},
        "conversations_total": {(): work.conversations},
        "tokens_total": {("prompt",): work.prompt_tokens, ("generation",): work.generation_tokens},
        "request_phase_seconds_total": {("prefill",): work.prefill_seconds, ("decode",): work.decode_seconds},
        "usd_per_conversation": {(): busy_price(work, usd_per_hour)},
        "usd_per_conversation_with_idle": {(): price_with_idle(work, usd_per_hour)},
        "usd_per_million_tokens": {
            ("prompt",): tokens.input if tokens else None,
            ("generation",): tokens.output if tokens else None,
        },
    }


def _monitored(served: MonitorFiles | None) -> Mapping[str, Values]:
    """Counts of the monitor and its recorder; no series in pods without them."""
    if served is None:
        names = ("requests", "unreadable", "conversations", "values", "endings", "hub_turns", "hub_violations")
        return {f"monitored_{name}_total": {} for name in names}
    total = served.state.total
    outcomes = {"conformant": total.conformant, "violation": total.conversations - total.conformant}
    turns: dict[tuple[str, ...], float | Decimal | None] = {(name, "false"): hub.unrecognized for name, hub in total.hubs.items()}
    turns |= {(name, "true"): hub.turns - hub.unrecognized for name, hub in total.hubs.items()}
    return {
        "monitored_requests_total": {(state,): count for state, count in served.requests.items() if state != "seen"},
        "monitored_unreadable_total": {(): served.state.unreadable},
        "monitored_conversations_total": {(outcome,): count for outcome, count in outcomes.items()},
        "monitored_values_total": {("given",): total.asserted - total.fabricated, ("fabricated",): total.fabricated},
        "monitored_endings_total": {(terminal,): count for terminal, count in total.endings.items()},
        "monitored_hub_turns_total": turns,
        "monitored_hub_violations_total": {(name,): hub.violations for name, hub in total.hubs.items()},
    }
