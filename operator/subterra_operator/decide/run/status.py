"""How a run's state reads: conditions, phase, progress, sum of the bill. The conditions are the truth, the rest follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compilerun import CompileRunStatus, StageStatus
from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_core.pricing import money
from subterra_operator.decide.decision import Conditions, find

STAGE_CONDITIONS = {"generate": Type.GENERATED, "train": Type.TRAINED, "evaluate": Type.EVALUATED}
WORKING = {"generate": "Generating", "train": "Training", "evaluate": "Evaluating"}
VERDICTS = {"Pass": Reason.GATE_PASSED, "Fail": Reason.GATE_FAILED, "Inconclusive": Reason.GATE_INCONCLUSIVE}


@dataclass(frozen=True)
class Outcome:
    """What stands in the way of the stages, if anything."""

    problem: tuple[Reason, str] | None = None
    suspended: tuple[Reason, str] | None = None


def conditions(status: CompileRunStatus, outcome: Outcome, previous: Sequence[Condition], now: datetime) -> tuple[Condition, ...]:
    """All conditions of a run."""
    make = Conditions(previous, status.observed_generation, now)
    stages = [stage for stage in status.stages if stage.name in STAGE_CONDITIONS]
    succeeded, working, stalled = _summary(status, stages, outcome)
    reason, message = succeeded[1:]
    return (
        make(Type.SUCCEEDED, *succeeded),
        *(_of_stage(make, stage) for stage in stages),
        _promotable(make, status),
        make(Type.RECONCILING, working, reason, message if working else ""),
        make(Type.STALLED, stalled, reason, message if stalled else ""),
    )


def _summary(
    status: CompileRunStatus, stages: Sequence[StageStatus], outcome: Outcome
) -> tuple[tuple[bool | None, Reason, str], bool, bool]:
    """Succeeded with reason and message; whether work goes on; whether a person is needed."""
    if outcome.problem:
        return (False, *outcome.problem), False, True
    failed = next((stage for stage in stages if stage.state == "Failed"), None)
    if failed:
        return (False, Reason(failed.reason or Reason.INTERNAL_ERROR), f"{failed.name}: {failed.message}"), False, True
    if status.verdict:
        return (True, Reason.SUCCEEDED, f"all stages are done; verdict {status.verdict.result}"), False, False
    if stages and all(stage.state == "Succeeded" for stage in stages):
        text = "the evaluation reported nothing to judge by; use a jobs image of the operator's version, then delete this run"
        return (False, Reason.INTERNAL_ERROR, f"{text}: it is made again, and what is paid is kept"), False, True
    if outcome.suspended:
        return (None, *outcome.suspended), False, False
    current = next((stage for stage in stages if stage.state != "Succeeded"), None)
    if current is None or current.attempt == 0:
        return (None, Reason.PENDING, "the run begins"), True, False
    waiting = f", attempt {current.attempt}" if current.attempt > 1 else ""
    return (None, Reason.RUNNING, f"stage {current.name} runs{waiting}"), True, False


def _of_stage(make: Conditions, stage: StageStatus) -> Condition:
    kind = STAGE_CONDITIONS[stage.name]
    if stage.state == "Succeeded":
        return make(kind, True, Reason.SUCCEEDED, stage.message or "")
    if stage.state == "Failed":
        return make(kind, False, Reason(stage.reason or Reason.INTERNAL_ERROR), stage.message or "")
    running = stage.state == "Running"
    return make(kind, None, Reason.RUNNING if running else Reason.PENDING, f"attempt {stage.attempt}" if stage.attempt else "")


def _promotable(make: Conditions, status: CompileRunStatus) -> Condition:
    if status.verdict is None:
        return make(Type.PROMOTABLE, None, Reason.PENDING, "not judged yet")
    verdict = status.verdict
    return make(Type.PROMOTABLE, verdict.result == "Pass", VERDICTS[verdict.result], "; ".join(verdict.reasons))


def phase(told: Sequence[Condition]) -> str:
    """One word for `kubectl get`."""
    succeeded, stalled = find(told, Type.SUCCEEDED), find(told, Type.STALLED)
    if stalled and stalled.status == "True":
        return "Failed"
    if succeeded and succeeded.status == "True":
        return "Succeeded"
    if succeeded and succeeded.reason in (Reason.SUSPENDED, Reason.SUPERSEDED, Reason.PENDING):
        return succeeded.reason
    for stage, kind in STAGE_CONDITIONS.items():
        if (done := find(told, kind)) and done.status != "True":
            return WORKING[stage]
    return "Pending"


def progress(stages: Sequence[StageStatus]) -> str | None:
    """The stage at work, such as ``train 42%, 3m left``."""
    current = next((stage for stage in stages if stage.state != "Succeeded"), None)
    if current is None:
        return "done" if stages else None
    if current.state == "Running":
        left = f", {-(-current.eta_seconds // 60)}m left" if current.eta_seconds else ""
        return f"{current.name} {current.percent}%{left}"
    return f"{current.name} failed" if current.state == "Failed" else current.name


def total(stages: Sequence[StageStatus]) -> str:
    """What the stages paid to providers, in dollars."""
    return money(sum((Decimal(stage.usd or "0") for stage in stages), Decimal(0)))
