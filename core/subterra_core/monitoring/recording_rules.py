"""Recording rules: what alerts and dashboards read more than once."""

from dataclasses import dataclass

WINDOWS = ("5m", "30m", "1h", "6h")
"""Of burn rates."""
SLOW_SECONDS = "10.0"
"""A slower answer counts against the latency objective; a bucket of vLLM's histogram."""
_ANSWERS = 'http_requests_total{handler=~"/v1/.+"'
_LATENCY = "vllm:e2e_request_latency_seconds"
_AGENT = "sum by (namespace, agent)"


@dataclass(frozen=True)
class RecordingRule:
    """A series that Prometheus computes."""

    name: str
    expr: str
    help: str


def _errors(window: str) -> str:
    failed, all_of_them = f'{_ANSWERS}, status="5xx"}}[{window}]', f"{_ANSWERS}}}[{window}]"
    # Without any failure there is no such series yet, so the sum of all times zero stands in.
    return f"({_AGENT} (rate({failed})) or 0 * {_AGENT} (rate({all_of_them}))) / {_AGENT} (rate({all_of_them}))"


def _slow(window: str) -> str:
    fast = f'{_LATENCY}_bucket{{le="{SLOW_SECONDS}"}}[{window}]'
    return f"1 - {_AGENT} (rate({fast})) / {_AGENT} (rate({_LATENCY}_count[{window}]))"


_PRICE = "subterra_compiledagent_usd_per_conversation_with_idle"
_PER_VERSION = "on (namespace, agent, version)"
RECORDING_RULES = (
    *(RecordingRule(f"subterra:agent_errors:ratio_rate{w}", _errors(w), "Share of requests answered with 5xx.") for w in WINDOWS),
    *(RecordingRule(f"subterra:agent_slow:ratio_rate{w}", _slow(w), "Share of answers slower than 10 s.") for w in WINDOWS),
    RecordingRule(
        "subterra:agent_conversations:rate1d",
        f"{_AGENT} (rate(subterra_serving_conversations_total[1d]))",
        "Conversations per second, over a day.",
    ),
    RecordingRule(
        "subterra:agent_comparator:ratio",
        f"subterra_compiledagent_comparator_usd_per_conversation / {_PER_VERSION} group_left () {_PRICE}",
        "Price with a comparator over the agent's own, idle hours included.",
    ),
    RecordingRule(
        "subterra:agent_break_even:days",
        "subterra_compiledagent_break_even_conversations / on (namespace, agent) group_left () "
        "(86400 * subterra:agent_conversations:rate1d)",
        "Days at today's traffic until the compile has paid for itself; +Inf means never.",
    ),
    RecordingRule(
        "subterra:payer_usd:increase30d",
        "sum by (namespace, payer, provider) (increase(subterra_provider_usd_total[30d]))",
        "Paid to providers within 30 days, by payer.",
    ),
)
