"""Metrics of the price exporter next to each vLLM, and those of others that rules and dashboards read."""

from subterra_core.monitoring.metric import Metric

_MODEL = ("model_digest",)


def _gauge(name: str, text: str, labels: tuple[str, ...] = _MODEL) -> Metric:
    return Metric(f"subterra_serving_{name}", "gauge", text, "exporter", labels)


def _counter(name: str, text: str, labels: tuple[str, ...] = _MODEL) -> Metric:
    return Metric(f"subterra_serving_{name}_total", "counter", text, "exporter", labels)


EXPORTER_METRICS = (
    _gauge("vllm_up", "1 if vLLM answered the last reading."),
    _gauge("usd_per_hour", "Price of the pod's hardware, as of its start."),
    _counter("usd", "Hardware time at `subterra_serving_usd_per_hour`."),
    _counter("busy_seconds", "Time in which requests were being executed."),
    _counter("idle_seconds", "Time in which none was, also without vLLM."),
    _counter("conversations", "Completed requests divided by the turns of a conversation."),
    _counter("tokens", "Tokens by kind: prompt (read), generation (written).", (*_MODEL, "kind")),
    _counter(
        "request_phase_seconds",
        "Time of requests by phase: prefill, decode. Those of overlapping requests add up.",
        (*_MODEL, "phase"),
    ),
    _gauge("usd_per_conversation", "Busy time per conversation since the pod started; absent before the first."),
    _gauge("usd_per_conversation_with_idle", "All time per conversation since the pod started; absent before the first."),
    _gauge("usd_per_million_tokens", "Busy time per million tokens, by kind: prompt, generation.", (*_MODEL, "kind")),
    _counter(
        "monitored_requests",
        "With `spec.monitoring`: requests by what became of them: recorded, or dropped because of rate, size, queue, full, error.",
        (*_MODEL, "state"),
    ),
    _counter("monitored_unreadable", "Recorded requests that could not be read."),
    _counter(
        "monitored_conversations",
        "Served conversations in the sample by outcome: conformant, or violation once a reply was wrong.",
        (*_MODEL, "outcome"),
    ),
    _counter("monitored_values", "Values that replies asserted: given, or fabricated.", (*_MODEL, "kind")),
    _counter("monitored_endings", "Replies that came to an end, by terminal.", (*_MODEL, "terminal")),
    _counter(
        "monitored_hub_turns",
        "Turns in which customers decided, by hub and by whether the words are like an example.",
        (*_MODEL, "hub", "recognized"),
    ),
    _counter("monitored_hub_violations", "Conversations whose first wrong reply came after this hub.", (*_MODEL, "hub")),
)


def _vllm(name: str, kind: str, text: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(name, kind, text, "vllm", ("model_name", *labels))  # type: ignore[arg-type]


OTHERS_METRICS = (
    _vllm("vllm:num_requests_running", "gauge", "Requests being executed."),
    _vllm("vllm:num_requests_waiting", "gauge", "Requests that wait to be executed."),
    _vllm("vllm:kv_cache_usage_perc", "gauge", "Share of the KV cache in use, 0 to 1."),
    _vllm("vllm:e2e_request_latency_seconds", "histogram", "Time from a request's arrival to its last token."),
    _vllm("vllm:time_to_first_token_seconds", "histogram", "Time from a request's arrival to its first token."),
    Metric(
        "http_requests_total",
        "counter",
        "HTTP requests by handler and class of status, such as 5xx.",
        "vllm",
        ("handler", "method", "status"),
    ),
    Metric("ALERTS", "gauge", "1 for each alert that is pending or firing.", "prometheus", ("alertname", "alertstate", "severity")),
    Metric("up", "gauge", "1 if Prometheus could scrape the target.", "prometheus", ("job", "instance")),
)
