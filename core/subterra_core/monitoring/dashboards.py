"""The three dashboards: the fleet, compile runs, one agent with its price."""

from subterra_core.monitoring.grafana import Dashboard, Panel, Query

_RATE = "[$__rate_interval]"


def _of(metric: str, more: str = "") -> str:
    """A metric of the chosen namespaces and agents."""
    return f'{metric}{{namespace=~"$namespace", agent=~"$agent"{more}}}'


def _per_agent(expr: str) -> str:
    return f"sum by (namespace, agent) ({expr})"


def _rate(metric: str) -> str:
    return _per_agent(f"rate({_of(metric)}{_RATE})")


_BUSY, _IDLE = _rate("subterra_serving_busy_seconds_total"), _rate("subterra_serving_idle_seconds_total")


def _conditions(more: str) -> Query:
    """Conditions with their reasons."""
    reason = "group_left (reason) subterra_compiledagent_condition_reason"
    return Query(f"{_of('subterra_compiledagent_condition', more)} * on (namespace, agent, condition) {reason}")


_AGENT = "{{namespace}}/{{agent}}"
_RUN = "{{namespace}}/{{run}}"
_WARNINGS = "Stalled|ModelRetirement|Drifting"
"""Conditions that are not wanted."""
_ONE_RUN = "namespace, agent, run"
FLEET = Dashboard(
    "subterra-fleet",
    "Subterra / Fleet",
    (
        (
            Panel(
                "Agents by phase", (Query(f"count by (phase) ({_of('subterra_compiledagent_phase')})", "{{phase}}"),), kind="stat"
            ),
            Panel("Runs by phase", (Query(f"count by (phase) ({_of('subterra_compilerun_phase')})", "{{phase}}"),), kind="stat"),
            Panel("Leaders", (Query("sum(subterra_leader)"),), kind="stat", description="1, except during a takeover."),
            Panel("Operator", (Query("max by (version) (subterra_build_info)", "{{version}}"),), kind="stat"),
        ),
        (
            Panel(
                "Firing alerts",
                (Query('ALERTS{alertname=~"Subterra.+", alertstate="firing"}'),),
                kind="table",
                description="Empty while all is well.",
            ),
        ),
        (
            Panel("Versions with traffic", (Query(_of("subterra_compiledagent_info")),), kind="table"),
            Panel(
                "Conditions that are not as wanted",
                (
                    _conditions(', condition=~"Ready|UpToDate", status!="True"'),
                    _conditions(f', condition=~"{_WARNINGS}", status="True"'),
                ),
                kind="table",
            ),
        ),
        (
            Panel("Ready replicas", (Query(_of("subterra_compiledagent_ready_replicas"), _AGENT),)),
            Panel(
                "Age of the oldest check",
                (Query("time() - max by (kind) (subterra_reconcile_oldest_timestamp_seconds)", "{{kind}}"),),
                "s",
            ),
            Panel(
                "Paid to providers within 30 days",
                (Query('subterra:payer_usd:increase30d{namespace=~"$namespace"}', "{{namespace}}/{{payer}} {{provider}}"),),
                "currencyUSD",
            ),
        ),
        (
            Panel(
                "Reconciles",
                (Query(f"sum by (kind, result) (rate(subterra_reconcile_total{_RATE}))", "{{kind}} {{result}}"),),
                "reqps",
            ),
            Panel(
                "Reconcile time, 99th percentile",
                (
                    Query(
                        f"histogram_quantile(0.99, sum by (kind, le) (rate(subterra_reconcile_seconds_bucket{_RATE})))", "{{kind}}"
                    ),
                ),
                "s",
            ),
            Panel(
                "Requests to the API server",
                (Query(f"sum by (verb, code) (rate(subterra_api_requests_total{_RATE}))", "{{verb}} {{code}}"),),
                "reqps",
            ),
        ),
        (
            Panel("Keys in the queue", (Query("sum(subterra_queue_keys)", "waiting"),)),
            Panel("Longest overdue", (Query("max(subterra_queue_overdue_seconds)", "overdue"),), "s"),
            Panel(
                "Watches",
                (
                    Query(f"sum(rate(subterra_watch_restarts_total{_RATE}))", "restarts a second"),
                    Query("max(subterra_watch_silence_seconds)", "silence in seconds"),
                    Query(f"sum(rate(subterra_refused_writes_total{_RATE}))", "refused writes a second"),
                ),
            ),
        ),
    ),
)
RUNS = Dashboard(
    "subterra-runs",
    "Subterra / Compile runs",
    (
        (
            Panel(
                "Runs",
                (
                    Query(f"{_of('subterra_compilerun_phase')} * on ({_ONE_RUN}) group_left (reason) subterra_compilerun_reason"),
                    Query(f"{_of('subterra_compilerun_phase')} unless on ({_ONE_RUN}) subterra_compilerun_reason"),
                ),
                kind="table",
            ),
            Panel("Verdicts", (Query(f"count by (verdict) ({_of('subterra_compilerun_verdict')})", "{{verdict}}"),), kind="stat"),
        ),
        (
            Panel(
                "Progress of running stages",
                (
                    Query(
                        f"{_of('subterra_compilerun_stage_done')} / {_of('subterra_compilerun_stage_planned')}",
                        f"{_RUN} {{{{stage}}}}",
                    ),
                ),
                "percentunit",
            ),
            Panel("Time left", (Query(_of("subterra_compilerun_stage_eta_seconds"), f"{_RUN} {{{{stage}}}}"),), "s"),
            Panel(
                "Silence of running stages",
                (Query(f"time() - {_of('subterra_compilerun_stage_report_timestamp_seconds')}", f"{_RUN} {{{{stage}}}}"),),
                "s",
            ),
        ),
        (
            Panel(
                "Duration of stages, median over a week",
                (
                    Query(
                        "histogram_quantile(0.5, sum by (stage, le) (increase(subterra_stage_duration_seconds_bucket[7d])))",
                        "{{stage}}",
                    ),
                ),
                "s",
                "stat",
            ),
            Panel(
                "Stages that ended, over a week",
                (Query("sum by (stage, outcome) (increase(subterra_stage_duration_seconds_count[7d]))", "{{stage}} {{outcome}}"),),
                kind="table",
            ),
            Panel(
                "Time since start of running stages",
                (Query(f"time() - {_of('subterra_compilerun_stage_start_timestamp_seconds')}", f"{_RUN} {{{{stage}}}}"),),
                "s",
            ),
        ),
        (
            Panel("Paid by runs", (Query(_of("subterra_compilerun_usd"), _RUN),), "currencyUSD"),
            Panel("Paid by running stages", (Query(_of("subterra_compilerun_stage_usd"), f"{_RUN} {{{{stage}}}}"),), "currencyUSD"),
            Panel(
                "Share of the cap",
                (Query(f"{_of('subterra_compilerun_usd')} / {_of('subterra_compilerun_max_usd')}", _RUN),),
                "percentunit",
            ),
        ),
        (
            Panel(
                "Calls to providers, and the account's limit",
                (
                    Query(_of("subterra_compilerun_stage_calls_per_second"), f"{_RUN} {{{{stage}}}}"),
                    Query(_of("subterra_compilerun_stage_calls_limit_per_second"), f"{_RUN} limit"),
                ),
                "reqps",
            ),
            Panel("Calls of running stages", (Query(_of("subterra_compilerun_stage_calls"), f"{_RUN} {{{{stage}}}}"),)),
            Panel("Billed tokens of running stages", (Query(_of("subterra_compilerun_stage_tokens"), f"{_RUN} {{{{stage}}}}"),)),
        ),
    ),
)
AGENT = Dashboard(
    "subterra-agent",
    "Subterra / Agent and price",
    (
        (
            Panel(
                "A conversation, with idle",
                (Query(_of("subterra_compiledagent_usd_per_conversation_with_idle"), _AGENT),),
                "currencyUSD",
                "stat",
            ),
            Panel(
                "A conversation, busy", (Query(_of("subterra_compiledagent_usd_per_conversation"), _AGENT),), "currencyUSD", "stat"
            ),
            Panel("Hardware per hour", (Query(_of("subterra_compiledagent_usd_per_hour"), _AGENT),), "currencyUSD", "stat"),
            Panel("Compile", (Query(_of("subterra_compiledagent_compile_usd"), _AGENT),), "currencyUSD", "stat"),
        ),
        (
            Panel(
                "A conversation otherwise",
                (
                    Query(_of("subterra_compiledagent_comparator_usd_per_conversation"), "{{comparator}} {{model}}"),
                    Query(_of("subterra_compiledagent_usd_per_conversation_with_idle"), "compiled, with idle"),
                ),
                "currencyUSD",
            ),
            Panel("Times the compiled price", (Query(_of("subterra:agent_comparator:ratio"), "{{comparator}} {{model}}"),)),
            Panel(
                "Breaks even after conversations",
                (Query(_of("subterra_compiledagent_break_even_conversations"), "{{comparator}} {{model}}"),),
                kind="stat",
                infinite="never at this utilization",
            ),
            Panel(
                "Breaks even after days",
                (Query(_of("subterra:agent_break_even:days"), "{{comparator}} {{model}}"),),
                kind="stat",
                infinite="never at this utilization",
            ),
        ),
        (
            Panel("Conversations a day", (Query(f"86400 * {_of('subterra:agent_conversations:rate1d')}", _AGENT),)),
            Panel(
                "Busy share",
                (Query(f"{_BUSY} / ({_BUSY} + {_IDLE})", _AGENT),),
                "percentunit",
            ),
            Panel(
                "Tokens per second",
                (Query(f"sum by (kind) (rate({_of('subterra_serving_tokens_total')}{_RATE}))", "{{kind}}"),),
                "tokens",
            ),
            Panel(
                "A million tokens",
                (
                    Query(_of("subterra_compiledagent_prefill_usd_per_million_tokens"), "read"),
                    Query(_of("subterra_compiledagent_decode_usd_per_million_tokens"), "written"),
                ),
                "currencyUSD",
            ),
        ),
        (
            Panel("Answers with 5xx", (Query(_of("subterra:agent_errors:ratio_rate5m"), _AGENT),), "percentunit"),
            Panel("Answers slower than 10 s", (Query(_of("subterra:agent_slow:ratio_rate5m"), _AGENT),), "percentunit"),
            Panel(
                "First token, 95th percentile",
                (Query(f"histogram_quantile(0.95, sum by (le) (rate({_of('vllm:time_to_first_token_seconds_bucket')}{_RATE})))"),),
                "s",
            ),
            Panel(
                "Requests",
                (
                    Query(f"sum({_of('vllm:num_requests_running')})", "running"),
                    Query(f"sum({_of('vllm:num_requests_waiting')})", "waiting"),
                ),
            ),
        ),
        (
            Panel(
                "Ready replicas",
                (
                    Query(_of("subterra_compiledagent_ready_replicas"), "ready"),
                    Query(_of("subterra_compiledagent_wanted_replicas"), "wanted"),
                ),
            ),
            Panel("vLLM answers", (Query(f"min by (namespace, agent) ({_of('subterra_serving_vllm_up')})", _AGENT),)),
            Panel("Verdict on the candidate", (Query(_of("subterra_compiledagent_candidate_verdict")),), kind="table"),
        ),
    ),
)
DASHBOARDS = (FLEET, RUNS, AGENT)
