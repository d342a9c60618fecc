"""Metrics of compile runs: what their status says, what their stages report, how stages ended, what was paid."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from subterra_api.job_contract.messages import Progress
from subterra_api.v1alpha1.compilerun import CompileInputs, CompileRunStatus, StageStatus
from subterra_api.v1alpha1.conditions import Type
from subterra_core.provider_rules import providers_called_by
from subterra_operator.decide.decision import find_condition, parse_time
from subterra_operator.monitoring.series import ResourceGauges, Sample, counter, histogram
from subterra_operator.resources import Key, owning_agent

SEVERAL = "several"
"""Provider of a stage that calls more than one: a status has their sum only."""
_STAGE = "compilerun_stage_"
_STATUS = ResourceGauges(
    "compilerun_phase",
    "compilerun_reason",
    "compilerun_verdict",
    "compilerun_usd",
    "compilerun_max_usd",
    "compilerun_stage_start_timestamp_seconds",
    "compilerun_stage_report_timestamp_seconds",
)
_PROGRESS = ResourceGauges(
    *(f"{_STAGE}{name}" for name in ("done", "planned", "tokens", "usd", "eta_seconds")),
    *(f"{_STAGE}{name}" for name in ("calls", "calls_per_second", "calls_limit_per_second")),
)
_DURATIONS = histogram("stage_duration_seconds")
_PAID = counter("provider_usd_total")


def record_run(key: Key, status: Mapping[str, Any], subject: Mapping[str, Any]) -> None:
    """Sets a run's gauges from its new status, and counts what happened since the one before."""
    if not status.get("phase"):
        return
    before = CompileRunStatus.model_validate(subject.get("status") or {})
    after = before if status == subject.get("status") else CompileRunStatus.model_validate(status)
    run = (owning_agent(subject) or "", key.name)
    _STATUS.report(key, _samples(run, after, subject))
    known = {stage.name: stage for stage in before.stages}
    for stage in after.stages:
        _count(key, run, known.get(stage.name) or StageStatus(name=stage.name), stage, subject)


def _samples(run: tuple[str, str], status: CompileRunStatus, subject: Mapping[str, Any]) -> Iterator[Sample]:
    cap = subject["spec"].get("execution", {}).get("maxUSD")
    yield Sample("compilerun_phase", (*run, status.phase or ""), 1)
    if (ended := find_condition(status.conditions, Type.SUCCEEDED)) and ended.status != "True":
        yield Sample("compilerun_reason", (*run, ended.reason), 1)
    if status.verdict:
        yield Sample("compilerun_verdict", (*run, status.verdict.result), 1)
    yield Sample("compilerun_usd", run, float(status.usd or 0))
    yield Sample("compilerun_max_usd", run, None if cap is None else float(cap))
    for stage in status.stages:
        if stage.state == "Running" and stage.started_at:
            started = parse_time(stage.started_at).timestamp()
            reported = parse_time(stage.reported_at).timestamp() if stage.reported_at else started
            yield Sample(f"{_STAGE}start_timestamp_seconds", (*run, stage.name), started)
            yield Sample(f"{_STAGE}report_timestamp_seconds", (*run, stage.name), max(started, reported))


def _count(key: Key, run: tuple[str, str], before: StageStatus, after: StageStatus, subject: Mapping[str, Any]) -> None:
    """Counts an attempt that ended, and money that was paid, since the status before."""
    if after.finished_at and after.started_at and (before.finished_at, before.attempt) != (after.finished_at, after.attempt):
        seconds = (parse_time(after.finished_at) - parse_time(after.started_at)).total_seconds()
        outcome = "Succeeded" if after.state == "Succeeded" else after.reason or "Unknown"
        _DURATIONS.labels(after.name, outcome).observe(max(0.0, seconds))
    paid = Decimal(after.usd or 0) - Decimal(before.usd or 0)
    if paid > 0:
        _PAID.labels(key.namespace, run[0] or run[1], _provider(subject, after.name)).inc(float(paid))


def _provider(subject: Mapping[str, Any], stage: str) -> str:
    """The provider that a stage pays, such as anthropic."""
    inputs = CompileInputs.model_validate(subject["spec"]["inputs"])
    called = providers_called_by(inputs, "generate" if stage == "generate" else "evaluate")
    names = {provider.name for _, provider in called if provider.name != "scripted"}
    return names.pop() if len(names) == 1 else SEVERAL


def record_progress(run: Key, agent: str, progress: Progress) -> None:
    """Sets a stage's gauges from its pod's progress. They last as long as the pod."""
    labels, calls = (agent, run.name, progress.stage), progress.calls
    values = {
        "done": progress.done,
        "planned": progress.planned,
        "tokens": progress.tokens,
        "usd": float(progress.usd),
        "eta_seconds": progress.eta_seconds,
        "calls": calls.answered if calls else None,
        "calls_per_second": calls.per_minute / 60 if calls else None,
        "calls_limit_per_second": calls.limit / 60 if calls and calls.limit is not None else None,
    }
    _PROGRESS.report(run, (Sample(f"{_STAGE}{name}", labels, value) for name, value in values.items()))


def forget_progress(run: Key) -> None:
    """Removes the gauges that are valid only while a stage's pod runs."""
    _PROGRESS.remove(run)


def forget(key: Key) -> None:
    """Removes all gauges of a deleted run."""
    _STATUS.remove(key)
    _PROGRESS.remove(key)


def forget_all() -> None:
    """Removes what is measured of all runs."""
    for each in (_STATUS, _PROGRESS, _DURATIONS, _PAID):
        each.clear()
