"""For each alert the series that fire it, and from when on they are as they should be: what promtool plays."""

from dataclasses import dataclass

AGENT = 'namespace="demo", agent="travel"'
RUN = f'{AGENT}, run="travel-1"'
VERSION = f'{AGENT}, version="v1"'
POD = f'{AGENT}, pod="travel-v1-a"'
WORSENED = 'condition="Reevaluated", reason="VerdictWorsened"'
IDLE_POD = f'{AGENT}, pod="travel-v1-b"'
CACHED = f'{VERSION}, comparator="InContextCached", model="m"'


@dataclass(frozen=True)
class AlertCase:
    """Series in promtool's notation, one sample per `interval`: wrong at first, right later."""

    series: dict[str, str]
    fires_at: str
    resolved_at: str
    labels: dict[str, str]
    interval: str = "1m"
    quiet_at: str = "0m"
    """When it does not fire yet."""


def _condition(kind: str, status: str) -> str:
    return f'subterra_compiledagent_condition{{{AGENT}, condition="{kind}", status="{status}"}}'


HELD = ("Suspended", "Superseded")
"""Phases in which a run makes no progress because somebody wants it so."""


def _held(phase: str) -> str:
    return f'{AGENT}, run="{phase.lower()}-1"'


INFO = f'subterra_compiledagent_info{{{VERSION}, model_digest="sha256:a", run="travel-1"}}'
ON_AGENT = {"namespace": "demo", "agent": "travel"}
ON_RUN = ON_AGENT | {"run": "travel-1"}
ON_VERSION = ON_AGENT | {"version": "v1"}
STAGE = f'{RUN}, stage="train"'
ON_STAGE = ON_RUN | {"stage": "train"}
ANSWERS = f'http_requests_total{{{AGENT}, handler="/v1/chat/completions", method="POST"'
LATENCY = f"vllm:e2e_request_latency_seconds_%s{{{AGENT}"

CASES = {
    "SubterraNoLeader": AlertCase(
        {'subterra_leader{pod="a"}': "0x9 1x10", 'subterra_leader{pod="b"}': "0x20"}, "8m", "12m", {}, quiet_at="3m"
    ),
    "SubterraLeaderFlapping": AlertCase({'subterra_leader{pod="a"}': "1 0 1 0 1 0 1 0 1 0 1x100"}, "16m", "90m", {}, quiet_at="5m"),
    "SubterraApiUnreachable": AlertCase(
        {'subterra_api_last_answer_timestamp_seconds{pod="a"}': "0x10 900x20"}, "8m", "16m", {"pod": "a"}, quiet_at="2m"
    ),
    "SubterraQueueGrowing": AlertCase({"subterra_queue_overdue_seconds": "90x15 0x10"}, "12m", "20m", {}, quiet_at="5m"),
    "SubterraStatusOld": AlertCase(
        {'subterra_reconcile_oldest_timestamp_seconds{kind="CompiledAgent"}': "0x30 1800x30"},
        "25m",
        "35m",
        {"kind": "CompiledAgent"},
        quiet_at="16m",
    ),
    "SubterraStageStuck": AlertCase(
        {f"subterra_compilerun_stage_report_timestamp_seconds{{{STAGE}}}": "0x80 4800x30"}
        | {f'subterra_compilerun_stage_report_timestamp_seconds{{{_held(phase)}, stage="train"}}': "0x110" for phase in HELD}
        | {f'subterra_compilerun_phase{{{_held(phase)}, phase="{phase}"}}': "1x110" for phase in HELD},
        "70m",
        "90m",
        ON_STAGE,
        quiet_at="59m",
    ),
    "SubterraRunFailed": AlertCase(
        {
            f'subterra_compilerun_phase{{{RUN}, phase="Failed"}}': "1x40",
            _condition("UpToDate", "False"): "1x10 _x30",
            _condition("UpToDate", "True"): "_x10 1x30",
        },
        "5m",
        "20m",
        ON_RUN | {"phase": "Failed"},
    ),
    "SubterraRunBlocked": AlertCase(
        {f'subterra_compilerun_phase{{{RUN}, phase="Blocked"}}': "1x15 _x20"},
        "12m",
        "20m",
        ON_RUN | {"phase": "Blocked"},
        quiet_at="9m",
    ),
    "SubterraCapNearlyReached": AlertCase(
        {
            f"subterra_compilerun_usd{{{RUN}}}": "9.5x40",
            f"subterra_compilerun_max_usd{{{RUN}}}": "10x10 20x30",
            f'subterra_compilerun_phase{{{RUN}, phase="Generating"}}': "1x40",
        },
        "5m",
        "20m",
        ON_RUN,
    ),
    "SubterraProviderLimited": AlertCase(
        {
            f"subterra_compilerun_stage_calls_per_second{{{STAGE}}}": "65x40 20x20",
            f"subterra_compilerun_stage_calls_limit_per_second{{{STAGE}}}": "66x60",
        },
        "35m",
        "45m",
        ON_STAGE,
        quiet_at="20m",
    ),
    "SubterraAgentDown": AlertCase(
        {_condition("Ready", "False"): "1x10 _x20", INFO: "1x30"},
        "8m",
        "20m",
        ON_AGENT | {"condition": "Ready", "status": "False"},
        quiet_at="4m",
    ),
    "SubterraAgentHangs": AlertCase(
        {
            f"vllm:num_requests_running{{{POD}}}": "2x40",
            f'subterra_serving_tokens_total{{{POD}, kind="generation"}}': "0+100x10 1000x15 1000+100x15",
            f"vllm:num_requests_running{{{IDLE_POD}}}": "0x40",
            f'subterra_serving_tokens_total{{{IDLE_POD}, kind="generation"}}': "7x40",
        },
        "22m",
        "30m",
        ON_AGENT | {"pod": "travel-v1-a"},
        quiet_at="14m",
    ),
    "SubterraAgentStalled": AlertCase(
        {_condition("Stalled", "True"): "1x15 _x20"},
        "12m",
        "25m",
        ON_AGENT | {"condition": "Stalled", "status": "True"},
        quiet_at="9m",
    ),
    "SubterraWeightsStale": AlertCase(
        {_condition("UpToDate", "False"): "1x30 _x10", _condition("Ready", "True"): "1x40"},
        "25h",
        "35h",
        ON_AGENT | {"condition": "UpToDate", "status": "False"},
        interval="1h",
        quiet_at="20h",
    ),
    "SubterraVerdictInconclusive": AlertCase(
        {f'subterra_compiledagent_candidate_verdict{{{RUN}, verdict="Inconclusive"}}': "1x80 _x10"},
        "75h",
        "85h",
        ON_RUN | {"verdict": "Inconclusive"},
        interval="1h",
        quiet_at="70h",
    ),
    "SubterraModelRetiring": AlertCase(
        {f'subterra_hosted_model_retirement_timestamp_seconds{{{AGENT}, model="gpt-4.1"}}': "5097600x100 _x50"},
        "90m",
        "120m",
        ON_AGENT | {"model": "gpt-4.1"},
        quiet_at="30m",
    ),
    "SubterraAgentDrifting": AlertCase(
        {_condition("Drifting", "True"): "1x80 _x30"},
        "70m",
        "90m",
        ON_AGENT | {"condition": "Drifting", "status": "True"},
        quiet_at="30m",
    ),
    "SubterraVerdictWorsened": AlertCase(
        {f"subterra_compiledagent_condition_reason{{{AGENT}, {WORSENED}}}": "1x40 _x30"},
        "10m",
        "50m",
        ON_AGENT | {"condition": "Reevaluated", "reason": "VerdictWorsened"},
        quiet_at="3m",
    ),
    "SubterraPriceAboveComparator": AlertCase(
        {
            f"subterra_compiledagent_usd_per_conversation_with_idle{{{VERSION}}}": "0.003x10 0.0005x10",
            f"subterra_compiledagent_comparator_usd_per_conversation{{{CACHED}}}": "0.001x20",
        },
        "7h",
        "15h",
        ON_VERSION,
        interval="1h",
        quiet_at="4h",
    ),
    "SubterraAgentErrors": AlertCase(
        {f'{ANSWERS}, status="2xx"}}': "0+90x120", f'{ANSWERS}, status="5xx"}}': "0+10x60 610x60"},
        "20m",
        "110m",
        ON_AGENT,
    ),
    "SubterraAgentSlow": AlertCase(
        {
            f'{LATENCY % "bucket"}, le="10.0"}}': "0+10x60 610+100x60",
            f'{LATENCY % "bucket"}, le="+Inf"}}': "0+100x120",
            f"{LATENCY % 'count'}}}": "0+100x120",
        },
        "20m",
        "110m",
        ON_AGENT,
    ),
}
