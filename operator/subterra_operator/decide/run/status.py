"""A run's status: conditions, phase, progress, total cost. The conditions are the truth, the rest is derived from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compilerun import CompileRunStatus, StageStatus
from subterra_api.v1alpha1.conditions import REFUSALS, Reason, Type
from subterra_core.pricing import format_usd
from subterra_operator.decide.decision import ConditionBuilder, find_condition
from subterra_operator.decide.run.job_outcome import POD_PENDING

STAGE_CONDITIONS = {"generate": Type.GENERATED, "train": Type.TRAINED, "evaluate": Type.EVALUATED}
STAGE_PHASES = {"generate": "Generating", "train": "Training", "evaluate": "Evaluating"}
VERDICTS = {"Pass": Reason.GATE_PASSED, "Fail": Reason.GATE_FAILED, "Inconclusive": Reason.GATE_INCONCLUSIVE}
NO_STATISTICS = (
    "the evaluation reported no statistics to judge; use a jobs image of the operator's version, then delete this run: "
    "it is created again and reuses all paid work"
)


@dataclass(frozen=True)
class Blockers:
    """Why the stages do not run, each as reason and message."""

    problem: tuple[Reason, str] | None = None
    suspended: tuple[Reason, str] | None = None


def conditions(status: CompileRunStatus, blockers: Blockers, previous: Sequence[Condition], now: datetime) -> tuple[Condition, ...]:
    """All conditions of a run."""
    make = ConditionBuilder(previous, status.observed_generation, now)
    stages = [stage for stage in status.stages if stage.name in STAGE_CONDITIONS]
    succeeded, reconciling, stalled = _summary(status, stages, blockers)
    reason, message = succeeded[1:]
    return (
        make(Type.SUCCEEDED, *succeeded),
        *(_of_stage(make, stage) for stage in stages),
        _promotable(make, status),
        make(Type.RECONCILING, reconciling, reason, message if reconciling else ""),
        make(Type.STALLED, stalled, reason, message if stalled else ""),
    )


def _summary(
    status: CompileRunStatus, stages: Sequence[StageStatus], blockers: Blockers
) -> tuple[tuple[bool | None, Reason, str], bool, bool]:
    """Status, reason and message of Succeeded; whether the run is Reconciling; whether it is Stalled."""
    if blockers.problem:
        refused = blockers.problem[0] in REFUSALS  # not an end: the write is retried
        return (None if refused else False, *blockers.problem), False, True
    failed = next((stage for stage in stages if stage.state == "Failed"), None)
    if failed:
        return (False, Reason(failed.reason or Reason.INTERNAL_ERROR), f"{failed.name}: {failed.message}"), False, True
    if status.verdict:
        return (True, Reason.SUCCEEDED, f"all stages succeeded; verdict {status.verdict.result}"), False, False
    if stages and all(stage.state == "Succeeded" for stage in stages):
        return (False, Reason.INTERNAL_ERROR, NO_STATISTICS), False, True
    if blockers.suspended:
        return (None, *blockers.suspended), False, False
    current = next((stage for stage in stages if stage.state != "Succeeded"), None)
    if current is None or current.attempt == 0:
        return (None, Reason.PENDING, "the run is starting"), True, False
    if current.reason and _is_held_up(current):
        return (None, Reason(current.reason), f"{current.name}: {current.message}"), True, False
    return (None, Reason.RUNNING, _running_message(current)), True, False


def _running_message(stage: StageStatus) -> str:
    """Such as ``train: running, attempt 2`` or ``generate: pod pending``."""
    pending = stage.message is not None and stage.message.startswith(POD_PENDING)
    attempt = f", attempt {stage.attempt}" if stage.attempt > 1 else ""
    return f"{stage.name}: {stage.message if pending else 'running'}{attempt}"


def _is_held_up(stage: StageStatus) -> bool:
    """Whether a stage's reason is why it does not run at the moment, rather than why an attempt failed."""
    return stage.state == "Running" or stage.reason == Reason.DISRUPTED


def _of_stage(make: ConditionBuilder, stage: StageStatus) -> Condition:
    kind = STAGE_CONDITIONS[stage.name]
    if stage.state == "Succeeded":
        return make(kind, True, Reason.SUCCEEDED, stage.message or "")
    if stage.state == "Failed":
        return make(kind, False, Reason(stage.reason or Reason.INTERNAL_ERROR), stage.message or "")
    if stage.reason and _is_held_up(stage):
        return make(kind, None, Reason(stage.reason), stage.message or "")
    return make(
        kind,
        None,
        Reason.RUNNING if stage.state == "Running" else Reason.PENDING,
        f"attempt {stage.attempt}" if stage.attempt else "",
    )


def _promotable(make: ConditionBuilder, status: CompileRunStatus) -> Condition:
    if status.verdict is None:
        return make(Type.PROMOTABLE, None, Reason.PENDING, "no verdict yet")
    verdict = status.verdict
    return make(Type.PROMOTABLE, verdict.result == "Pass", VERDICTS[verdict.result], "; ".join(verdict.reasons))


def phase(conditions: Sequence[Condition]) -> str:
    """One word for `kubectl get`."""
    succeeded, stalled = find_condition(conditions, Type.SUCCEEDED), find_condition(conditions, Type.STALLED)
    if stalled and stalled.status == "True":
        return "Blocked" if stalled.reason in REFUSALS else "Failed"
    if succeeded and succeeded.status == "True":
        return "Succeeded"
    if succeeded and succeeded.reason in (Reason.SUSPENDED, Reason.SUPERSEDED, Reason.PENDING):
        return succeeded.reason
    for stage, kind in STAGE_CONDITIONS.items():
        if (done := find_condition(conditions, kind)) and done.status != "True":
            return STAGE_PHASES[stage]
    return "Pending"


def progress(stages: Sequence[StageStatus]) -> str | None:
    """The current stage, such as ``train 42%, 3m left``."""
    current = next((stage for stage in stages if stage.state != "Succeeded"), None)
    if current is None:
        return "done" if stages else None
    if current.state == "Running":
        left = f", {-(-current.eta_seconds // 60)}m left" if current.eta_seconds else ""
        return f"{current.name} {current.percent}%{left}"
    return f"{current.name} failed" if current.state == "Failed" else current.name


def total_usd(stages: Sequence[StageStatus]) -> str:
    """Total cost of the stages' API calls in dollars."""
    return format_usd(sum((Decimal(stage.usd or "0") for stage in stages), Decimal(0)))
