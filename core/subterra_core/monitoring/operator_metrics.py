"""Metrics of the operator. Those with `leader=True` describe resources, so only the replica that holds the Lease has them."""

from subterra_core.monitoring.metric import Metric

_RUN = ("namespace", "agent", "run")
_STAGE = (*_RUN, "stage")
_AGENT = ("namespace", "agent")
_VERSION = (*_AGENT, "version")
_COMPARED = (*_VERSION, "comparator", "model")
_HOURS = (60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 57_600, 115_200)


def _gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(f"subterra_{name}", "gauge", text, "operator", labels, leader=bool(labels) and labels != ("version",))


def _counter(name: str, text: str, labels: tuple[str, ...] = (), *, leader: bool = False) -> Metric:
    return Metric(f"subterra_{name}_total", "counter", text, "operator", labels, leader=leader)


PROCESS = (
    _gauge("build_info", "1, with the operator's version.", ("version",)),
    _gauge("leader", "1 if this operator may write, because it holds the Lease."),
    _counter("refused_writes", "Writes that were not sent because the Lease was not renewed in time."),
    _counter("api_requests", "Requests to the API server by verb and status code; code 0 means no answer.", ("verb", "code")),
    _gauge("api_last_answer_timestamp_seconds", "When the API server last answered without a server error."),
    _gauge("watch_silence_seconds", "How long watches have delivered no heartbeat although the API server answers."),
    _counter("watch_restarts", "How often all watches started again within the process; the log says why."),
    _gauge("queue_keys", "Keys in the work queue, including those due later."),
    _gauge("queue_overdue_seconds", "How long the key that waits longest has been due."),
    _counter("reconcile", "Reconciles by result: ok, conflict, refused by the API server, error.", ("kind", "result")),
    Metric(
        "subterra_reconcile_seconds",
        "histogram",
        "Duration of a reconcile, including its writes.",
        "operator",
        ("kind",),
        (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1, 2.5, 5, 10),
    ),
    _gauge(
        "reconcile_oldest_timestamp_seconds",
        "When the status that was checked longest ago was checked; each is every five minutes.",
        ("kind",),
    ),
)
RUNS = (
    _gauge("compilerun_phase", "1 for the phase of a run.", (*_RUN, "phase")),
    _gauge(
        "compilerun_reason",
        "1 for the reason of a run that has not succeeded: what it does, waits for, or failed of.",
        (*_RUN, "reason"),
    ),
    _gauge("compilerun_verdict", "1 for the gate's verdict on a run: Pass, Fail or Inconclusive.", (*_RUN, "verdict")),
    _gauge("compilerun_usd", "What a run has paid to providers.", _RUN),
    _gauge("compilerun_max_usd", "Cap on what a run may pay to providers; absent without one.", _RUN),
    _gauge("compilerun_stage_start_timestamp_seconds", "When the running attempt at a stage started.", _STAGE),
    _gauge(
        "compilerun_stage_report_timestamp_seconds",
        "When the running stage last reported something new; its start before the first report.",
        _STAGE,
    ),
    _gauge("compilerun_stage_done", "Units that are done: conversations, steps.", _STAGE),
    _gauge("compilerun_stage_planned", "Units that are planned.", _STAGE),
    _gauge("compilerun_stage_tokens", "Billed tokens of the stage.", _STAGE),
    _gauge("compilerun_stage_usd", "What the stage has paid to providers, over all attempts.", _STAGE),
    _gauge("compilerun_stage_eta_seconds", "Estimated time until the stage is done.", _STAGE),
    _gauge("compilerun_stage_calls", "Calls that providers answered in this attempt.", _STAGE),
    _gauge("compilerun_stage_calls_per_second", "Calls that providers answered, over the last 30 s.", _STAGE),
    _gauge("compilerun_stage_calls_limit_per_second", "The account's limit of calls, if the provider reports it.", _STAGE),
    Metric(
        "subterra_stage_duration_seconds",
        "histogram",
        "Duration of the last attempt of stages that ended, by outcome: Succeeded, or the reason of the failure.",
        "operator",
        ("stage", "outcome"),
        _HOURS,
        leader=True,
    ),
    _counter(
        "provider_usd",
        "What was paid to providers since this operator began to lead, by payer: an agent, or a run without one. Provider is "
        "`several` for stages that call more than one.",
        ("namespace", "payer", "provider"),
        leader=True,
    ),
)
AGENTS = (
    _gauge("compiledagent_phase", "1 for the phase of an agent, as in its status.", (*_AGENT, "phase")),
    _gauge("compiledagent_condition", "1 for the status of a condition: True, False or Unknown.", (*_AGENT, "condition", "status")),
    _gauge(
        "compiledagent_condition_reason",
        "1 for the reason of a condition that is not as wanted: Ready or UpToDate if not True; Stalled, ModelRetirement or "
        "Drifting if True; Reevaluated if not True or if its verdict is worse; InferencePoolReady if not True.",
        (*_AGENT, "condition", "reason"),
    ),
    _gauge(
        "compiledagent_info",
        "1, with the version that has traffic, its model and the run that made it.",
        (*_VERSION, "model_digest", "run"),
    ),
    _gauge("compiledagent_candidate_verdict", "1 for the gate's verdict on the version that is wanted.", (*_RUN, "verdict")),
    _gauge("compiledagent_status_timestamp_seconds", "When the operator last checked the agent's status.", _AGENT),
    _gauge("compiledagent_wanted_replicas", "Replicas that the spec asks for.", _AGENT),
    _gauge("compiledagent_ready_replicas", "Replicas of the version with traffic that are ready.", _AGENT),
    _gauge("compiledagent_usd_per_hour", "Price of one replica's hardware, spec.cost.usdPerHour.", _AGENT),
    _gauge("compiledagent_conversations", "Conversations on which the version's prices are measured.", _VERSION),
    _gauge("compiledagent_usd_per_conversation", "Busy time of the serving pods per conversation.", _VERSION),
    _gauge("compiledagent_usd_per_conversation_with_idle", "All time of the serving pods per conversation.", _VERSION),
    _gauge("compiledagent_prefill_usd_per_million_tokens", "Busy time per million tokens read.", _VERSION),
    _gauge("compiledagent_decode_usd_per_million_tokens", "Busy time per million tokens written.", _VERSION),
    _gauge("compiledagent_compile_usd", "What the run that made the version paid to providers.", _VERSION),
    _gauge("compiledagent_comparator_usd_per_conversation", "What a conversation would cost otherwise; see costs.", _COMPARED),
    _gauge(
        "compiledagent_break_even_conversations",
        "Conversations until the compile has paid for itself; +Inf means never.",
        _COMPARED,
    ),
    _gauge(
        "hosted_model_retirement_timestamp_seconds",
        "When a hosted model that the agent names retires; absent without a date.",
        (*_AGENT, "model"),
    ),
)
OPERATOR_METRICS = (*PROCESS, *RUNS, *AGENTS)
