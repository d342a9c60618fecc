"""Alerts. Each has a section of the same name in `docs/guides/runbooks.md`."""

from dataclasses import dataclass
from typing import Literal

from subterra_core.hosted_models.catalog import WARNING_DAYS

AVAILABILITY, LATENCY = 0.995, 0.95
"""Objectives of served agents over 30 days: share of requests without 5xx, share of answers within 10 s."""
FAST_BURN, SLOW_BURN = 14.4, 6.0
"""Times the error budget's even pace: 2 % of it within an hour, 5 % within six."""


@dataclass(frozen=True)
class Alert:
    """One alerting rule. Summary and description are templates of Prometheus."""

    name: str
    expr: str
    hold: str
    """How long the expression must hold before it fires, such as 5m."""
    severity: Literal["critical", "warning", "info"]
    summary: str
    description: str


_RUN = "{{ $labels.namespace }}/{{ $labels.run }}"
_AGENT = "{{ $labels.namespace }}/{{ $labels.agent }}"
_IS_UP_TO_DATE = 'subterra_compiledagent_condition{condition="UpToDate", status="True"} == 1'
_BUSY_RUN = 'subterra_compilerun_phase{phase=~"Pending|Generating|Training|Evaluating"} == 1'
_HELD_RUN = 'subterra_compilerun_phase{phase=~"Suspended|Superseded"} == 1'
_BUSY_RUN_OF_AGENT = _BUSY_RUN.replace("{", '{agent!="", ')
_PRICE = "subterra_compiledagent_usd_per_conversation_with_idle"
_OF_POD = "namespace, agent, pod"


def _reason(metric: str, label: str, matchers: str = "") -> str:
    """A template that names the reasons of the alert's agent or run; nothing where none is known."""
    selected = f"{metric}{{namespace=%q, {label}=%q{matchers}}}"
    found = f"printf `{selected}` $labels.namespace $labels.{label} | query"
    return f" Reason:{{{{ range {found} }}}} {{{{ .Labels.reason }}}}{{{{ else }}}} not known{{{{ end }}}}."


_REASON_OF_RUN = _reason("subterra_compilerun_reason", "run")


def _burns(series: str, objective: float) -> str:
    """Fast or slow burn of the budget, each over a long and a short window, so that it fires in time and resolves soon."""
    budget = 1 - objective
    pairs = ((FAST_BURN, "1h", "5m"), (SLOW_BURN, "6h", "30m"))
    return " or ".join(
        f"({series}:ratio_rate{long} > {factor * budget:g} and {series}:ratio_rate{short} > {factor * budget:g})"
        for factor, long, short in pairs
    )


OPERATOR_ALERTS = (
    Alert(
        "SubterraNoLeader",
        "(sum(subterra_leader) == 0) or absent(subterra_leader)",
        "5m",
        "critical",
        "No operator leads: nothing is compiled, promoted or repaired",
        "Agents that serve go on serving. For five minutes no operator has held the Lease, or none could be scraped.",
    ),
    Alert(
        "SubterraLeaderFlapping",
        "sum(changes(subterra_leader[1h])) > 6",
        "5m",
        "warning",
        "The operators' Lease changes hands often",
        "{{ $value }} changes within an hour. Each costs up to 20 s in which nothing is decided.",
    ),
    Alert(
        "SubterraApiUnreachable",
        "time() - subterra_api_last_answer_timestamp_seconds > 120",
        "3m",
        "warning",
        "An operator gets no answer from the API server",
        "The last one came {{ $value | humanizeDuration }} ago.",
    ),
    Alert(
        "SubterraQueueGrowing",
        "max(subterra_queue_overdue_seconds) > 60",
        "10m",
        "warning",
        "The operator falls behind",
        "A resource has waited {{ $value | humanizeDuration }} for a decision that is due.",
    ),
    Alert(
        "SubterraStatusOld",
        "time() - subterra_reconcile_oldest_timestamp_seconds > 900",
        "5m",
        "warning",
        "A {{ $labels.kind }} has not been checked for long",
        "The oldest check was {{ $value | humanizeDuration }} ago; each is due every five minutes. A reconcile fails or is stuck.",
    ),
)
RUN_ALERTS = (
    Alert(
        "SubterraStageStuck",
        f"time() - subterra_compilerun_stage_report_timestamp_seconds > 3600 unless on (namespace, run) ({_HELD_RUN})",
        "5m",
        "warning",
        f"Stage {{{{ $labels.stage }}}} of {_RUN} makes no progress",
        "It has reported nothing new for {{ $value | humanizeDuration }}." + _REASON_OF_RUN,
    ),
    Alert(
        "SubterraRunFailed",
        f'subterra_compilerun_phase{{phase="Failed"}} == 1 unless on (namespace, agent) ({_IS_UP_TO_DATE}) '
        f"unless on (namespace, agent) ({_BUSY_RUN_OF_AGENT})",
        "1m",
        "warning",
        f"Compile run {_RUN} failed",
        "It stays failed until someone asks for a retry or the inputs change. What serves goes on serving." + _REASON_OF_RUN,
    ),
    Alert(
        "SubterraRunBlocked",
        'subterra_compilerun_phase{phase="Blocked"} == 1',
        "10m",
        "warning",
        f"Compile run {_RUN} cannot make its objects",
        "The API server refuses an object of the run. It is tried again every 30 s." + _REASON_OF_RUN,
    ),
    Alert(
        "SubterraCapNearlyReached",
        f"subterra_compilerun_usd / subterra_compilerun_max_usd > 0.9 and on (namespace, run) ({_BUSY_RUN})",
        "1m",
        "warning",
        f"Compile run {_RUN} has nearly used its budget",
        "It has paid {{ $value | humanizePercentage }} of its cap and will stop there.",
    ),
    Alert(
        "SubterraProviderLimited",
        "subterra_compilerun_stage_calls_per_second >= 0.9 * subterra_compilerun_stage_calls_limit_per_second",
        "30m",
        "info",
        f"{_RUN} runs at its account's rate limit",
        "Stage {{ $labels.stage }} makes {{ $value | humanize }} calls a second, which is what the account allows.",
    ),
)
AGENT_ALERTS = (
    Alert(
        "SubterraAgentDown",
        'subterra_compiledagent_condition{condition="Ready", status="False"} == 1 '
        "and on (namespace, agent) (subterra_compiledagent_info == 1)",
        "5m",
        "critical",
        f"Agent {_AGENT} does not serve",
        "It has a version with traffic, and none of its replicas is ready."
        + _reason("subterra_compiledagent_condition_reason", "agent", ', condition="Ready"'),
    ),
    Alert(
        "SubterraAgentHangs",
        f"min by ({_OF_POD}) (min_over_time(vllm:num_requests_running[5m])) > 0 "
        f"and on ({_OF_POD}) sum by ({_OF_POD}) (rate(subterra_serving_tokens_total[5m])) == 0",
        "5m",
        "critical",
        f"A pod of agent {_AGENT} has requests and writes nothing",
        "Pod {{ $labels.pod }} has had requests for ten minutes and has neither read nor written a token: its engine hangs. "
        "Its health check does not see that, so it keeps its traffic.",
    ),
    Alert(
        "SubterraAgentStalled",
        'subterra_compiledagent_condition{condition="Stalled", status="True"} == 1 '
        "unless on (namespace, agent) (subterra_compiledagent_info == 1)",
        "10m",
        "warning",
        f"Agent {_AGENT} has never served and waits for a person",
        "Its condition Stalled says what to do."
        + _reason("subterra_compiledagent_condition_reason", "agent", ', condition="Stalled"'),
    ),
    Alert(
        "SubterraWeightsStale",
        'subterra_compiledagent_condition{condition="UpToDate", status!="True"} == 1 '
        'and on (namespace, agent) (subterra_compiledagent_condition{condition="Ready", status="True"} == 1)',
        "24h",
        "warning",
        f"Agent {_AGENT} has served an old procedure for a day",
        "The weights that serve were compiled from another procedure or with other settings than those that are applied.",
    ),
    Alert(
        "SubterraVerdictInconclusive",
        'subterra_compiledagent_candidate_verdict{verdict="Inconclusive"} == 1',
        "3d",
        "warning",
        f"The gate could not decide on the candidate of {_AGENT}",
        "Run {{ $labels.run }} has been Inconclusive for three days, so the version before it still serves.",
    ),
    Alert(
        "SubterraModelRetiring",
        f"subterra_hosted_model_retirement_timestamp_seconds - time() < {WARNING_DAYS} * 86400",
        "1h",
        "warning",
        f"{{{{ $labels.model }}}}, which {_AGENT} names, retires soon",
        "In {{ $value | humanizeDuration }} new runs are refused. What serves goes on serving.",
    ),
    Alert(
        "SubterraAgentDrifting",
        'subterra_compiledagent_condition{condition="Drifting", status="True"} == 1',
        "1h",
        "warning",
        f"Served conversations of {_AGENT} are worse than evaluated",
        "Its condition Drifting says at which hub, with the shares and the number of conversations, and what to do.",
    ),
    Alert(
        "SubterraVerdictWorsened",
        'subterra_compiledagent_condition_reason{condition="Reevaluated", reason="VerdictWorsened"} == 1',
        "5m",
        "warning",
        f"What {_AGENT} serves fails the gate when it is evaluated again",
        "It goes on serving. Its condition Reevaluated has both verdicts, the numbers, the report and the way back.",
    ),
    Alert(
        "SubterraPriceAboveComparator",
        f"{_PRICE} >= on (namespace, agent, version) group_left () "
        'min by (namespace, agent, version) (subterra_compiledagent_comparator_usd_per_conversation{comparator="InContextCached"})',
        "6h",
        "info",
        f"A conversation of {_AGENT} costs more than a hosted model would",
        "It costs ${{ printf `%.3g` $value }}, idle hours included, which is not less than the comparator in context with a cache.",
    ),
    Alert(
        "SubterraAgentErrors",
        _burns("subterra:agent_errors", AVAILABILITY),
        "2m",
        "critical",
        f"Agent {_AGENT} answers too many requests with errors",
        "At {{ $value | humanizePercentage }} of requests the error budget of 30 days is used up within days.",
    ),
    Alert(
        "SubterraAgentSlow",
        _burns("subterra:agent_slow", LATENCY),
        "2m",
        "warning",
        f"Agent {_AGENT} answers slowly",
        "{{ $value | humanizePercentage }} of its answers take longer than 10 s.",
    ),
)
ALERTS = (*OPERATOR_ALERTS, *RUN_ALERTS, *AGENT_ALERTS)
