"""Events of a CompileRun: its stages with what they took and cost, its verdict, what stops it and what lets it go on."""

from collections.abc import Iterator

from subterra_api.digest import short
from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compilerun import CompileRunStatus, StageStatus
from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_operator.decide.decision import find_condition, parse_time
from subterra_operator.decide.events.event import Event, EventReason, normal, span, warning
from subterra_operator.decide.run.job_outcome import POD_PENDING
from subterra_operator.decide.run.stage import MAX_ATTEMPTS
from subterra_operator.decide.run.status import VERDICTS

ACTIONS = {"generate": "Generate", "train": "Train", "evaluate": "Evaluate"}
WAITS = ("Queued", "PodPending")
"""Reasons of a running stage without a pod that pass without help."""
STOPPED = (Reason.SUSPENDED, Reason.SUPERSEDED)


def run_events(old: CompileRunStatus, new: CompileRunStatus) -> Iterator[Event]:
    """Events of one change of a CompileRun's status, in the order in which things happened."""
    if new.procedure_digest and not old.procedure_digest:
        yield normal(EventReason.CREATED, "Compile", _purpose(new, new.procedure_digest))
    yield from _resumed(old, new)
    known = {stage.name: stage for stage in old.stages}
    for stage in new.stages:
        if stage.name in ACTIONS:
            yield from _stage_events(known.get(stage.name) or StageStatus(name=stage.name), stage)
    if new.verdict and (old.verdict is None or old.verdict.result != new.verdict.result):
        yield verdict_event(new.verdict.result, f"verdict {new.verdict.result}: {'; '.join(new.verdict.reasons)}")
    yield from _ended(old, new)


def _purpose(status: CompileRunStatus, procedure_digest: str) -> str:
    """What the run is for; one that evaluates another run's model has fewer stages."""
    procedure, stages = f"procedure {short(procedure_digest)}", [stage.name for stage in status.stages]
    if stages == ["evaluate", "gate"]:
        return f"evaluates a model of {procedure} again, in the stages evaluate and gate"
    return f"compiles {procedure} in the stages generate, train, evaluate and gate"


def verdict_event(result: str, note: str) -> Event:
    """The Event of a gate's verdict."""
    return (normal if result == "Pass" else warning)(VERDICTS[result], "Judge", note)


def _stage_events(old: StageStatus, new: StageStatus) -> Iterator[Event]:
    action, name = ACTIONS[new.name], new.name
    if new.state == "Succeeded" and old.state != "Succeeded":
        yield normal(EventReason.STAGE_SUCCEEDED, action, f"{name} succeeded{_effort(new)}: {new.message or 'no message'}")
    elif new.state == "Failed" and (old.state, old.attempt) != (new.state, new.attempt):
        yield warning(_reason(new), action, f"{name} failed in attempt {new.attempt}{_effort(new)}: {new.message}")
    elif new.state == "Pending" and new.finished_at and new.finished_at != old.finished_at:
        yield warning(_reason(new), action, f"{name}: {new.message}")
    elif new.state == "Running" and new.attempt != old.attempt:
        yield _started(new, action)
    elif new.state == "Running" and new.reason != (old.reason if old.state == "Running" else None):
        yield _held_up(old, new, action)
    elif new.state == "Running" and old.job_name and new.job_name != old.job_name:
        text = f"{name}: the Job succeeded but its result was lost; Job {new.job_name} reads it back, which costs nothing"
        yield warning(EventReason.RESULT_LOST, action, text)


def _held_up(old: StageStatus, new: StageStatus, action: str) -> Event:
    """Something keeps the pod of a running stage from running; or nothing does any more."""
    if new.reason is None:
        return normal(EventReason.RECOVERED, action, f"{new.name}: no longer held up by {old.reason}")
    return (normal if new.reason in WAITS else warning)(new.reason, action, f"{new.name}: {new.message}")


def _reason(stage: StageStatus) -> str:
    return stage.reason or Reason.INTERNAL_ERROR


def _started(stage: StageStatus, action: str) -> Event:
    if stage.attempt == 1:
        note = (stage.message or "").removeprefix(POD_PENDING)  # what the cluster does not allow of the settings
        return normal(EventReason.STAGE_STARTED, action, f"{stage.name} started as Job {stage.job_name}{note}")
    if stage.disruptions:
        why = "after a disruption"
    else:
        why = f"automatic retry {stage.retries} of {MAX_ATTEMPTS - 1}" if stage.retries else "because someone asked for a retry"
    text = f"{stage.name}: attempt {stage.attempt} started, {why}, as Job {stage.job_name}"
    return normal(EventReason.STAGE_RETRIED, action, text)


def _effort(stage: StageStatus) -> str:
    """What an attempt took and the stage has cost so far, such as `` in 12 min 3 s for $1.20 (80,000 tokens)``."""
    took = ""
    if stage.started_at and stage.finished_at:
        took = f" in {span((parse_time(stage.finished_at) - parse_time(stage.started_at)).total_seconds())}"
    tokens = f" ({stage.tokens:,} tokens)" if stage.tokens else ""
    return f"{took} for ${stage.usd}{tokens}" if stage.usd else took


def _resumed(old: CompileRunStatus, new: CompileRunStatus) -> Iterator[Event]:
    """The run goes on after it was suspended or superseded, or after a person removed what it was stalled by."""
    before, after = _summary(old), _summary(new)
    if before and after and before.reason in STOPPED and after.reason not in STOPPED:
        yield normal(EventReason.RESUMED, "Resume", f"no longer {before.reason.lower()}; finished work is kept")
    stalled = find_condition(old.conditions, Type.STALLED)
    if stalled and stalled.status == "True" and not _is_stalled(new) and after and after.reason not in STOPPED:
        yield normal(EventReason.RECOVERED, "Resume", f"no longer stalled by {stalled.reason}")


def _ended(old: CompileRunStatus, new: CompileRunStatus) -> Iterator[Event]:
    """The run succeeded, was stopped by a person or an edit, or is stalled by something other than a failed stage."""
    before, after = _summary(old), _summary(new)
    if after is None:
        return
    changed = before is None or (before.status, before.reason) != (after.status, after.reason)
    restated = before is not None and before.message != after.message
    if after.status == "True" and changed:
        cost = f" for ${new.usd}" if new.usd else ""
        yield normal(
            Reason.SUCCEEDED, "Compile", f"all stages succeeded{cost}; verdict {new.verdict.result if new.verdict else 'unknown'}"
        )
    elif after.reason in STOPPED and changed:
        yield normal(after.reason, "Suspend", after.message)
    elif _is_stalled(new) and not _has_failed_stage(new, after.reason) and (changed or restated):
        yield warning(after.reason, "Compile", after.message)


def _has_failed_stage(status: CompileRunStatus, reason: str) -> bool:
    """Whether a stage failed for this reason, which has an Event of its own."""
    return any(stage.state == "Failed" and _reason(stage) == reason for stage in status.stages)


def _summary(status: CompileRunStatus) -> Condition | None:
    return find_condition(status.conditions, Type.SUCCEEDED)


def _is_stalled(status: CompileRunStatus) -> bool:
    stalled = find_condition(status.conditions, Type.STALLED)
    return stalled is not None and stalled.status == "True"
