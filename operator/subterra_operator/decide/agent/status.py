"""An agent's conditions: Ready says whether it serves, UpToDate whether it serves what the procedure says.

While something serves, neither work in progress nor a rejected candidate makes the agent Reconciling or Stalled: tools that wait
for those would wait for hours, or report a healthy service as broken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from subterra_api.v1alpha1 import RETRY_AT
from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.compiledagent import Downtime
from subterra_api.v1alpha1.conditions import POD_REASONS, REFUSALS, Reason, Type, timestamp
from subterra_operator.decide.agent.candidate import AgentState
from subterra_operator.decide.agent.drift import Drift
from subterra_operator.decide.agent.rollout import Rollout
from subterra_operator.decide.decision import ConditionBuilder, find_condition, seconds_since
from subterra_operator.decide.trouble.trouble import Trouble
from subterra_operator.labels import STOPPED_AT, annotations_of
from subterra_operator.snapshot import Observed
from subterra_operator.specs.deployment import version_label

DEADLINE_SECONDS = 900


@dataclass(frozen=True)
class Serving:
    """The version with traffic, and how many of its replicas are ready."""

    version: str | None = None
    ready: int = 0
    wanted: int = 0
    trouble: Trouble | None = None
    """What keeps its pods from running."""
    stopped: bool = False
    """Whether it was stopped to make room for another version."""
    deadline_seconds: int = DEADLINE_SECONDS
    """How long its pods may be missing before the agent is Stalled."""

    @classmethod
    def of(cls, active: Observed | None, trouble: Trouble | None, deadline_seconds: int = DEADLINE_SECONDS) -> "Serving":
        """What the Deployment ``active`` serves; nothing for `None`."""
        if active is None:
            return cls(deadline_seconds=deadline_seconds)
        ready, wanted = active.get("status", {}).get("readyReplicas", 0), active["spec"].get("replicas", 0)
        return cls(version_label(active), ready, wanted, trouble, STOPPED_AT in annotations_of(active), deadline_seconds)

    @property
    def is_up(self) -> bool:
        """Whether a replica is ready, or none is wanted."""
        return self.version is not None and not self.stopped and (self.ready > 0 or self.wanted == 0)

    @property
    def at_zero(self) -> bool:
        """Whether nothing answers because no replica is wanted: by choice of a person or an autoscaler, so not a failure."""
        return self.version is not None and not self.stopped and self.wanted == 0

    @property
    def message(self) -> str:
        if self.stopped:
            return f"version {self.version} is stopped while another one starts, because spec.promotion.rollout is Recreate"
        if self.at_zero:
            return f"version {self.version} is scaled to zero; it serves again once spec.serving.replicas is 1 or more"
        if self.is_up:
            return f"version {self.version} serves with {self.ready} of {self.wanted} replicas"
        return f"no replica of version {self.version} is ready" + (f": {self.trouble.text}" if self.trouble else "")

    def reason(self, now: datetime) -> Reason:
        """Why it is not up: what keeps its pods from running, once that has lasted."""
        return self.trouble.reason if self.trouble and self.trouble.lasts(now) else Reason.NOT_SERVING


def with_rollout(state: AgentState, rollout: Rollout, now: datetime) -> AgentState:
    """The plan's state, corrected by how far the rollout is."""
    if rollout.state in ("failed", "aborted"):
        text = f"{rollout.message}; to try the same version again, set the annotation {RETRY_AT} to the current time"
        return AgentState(False, Reason.CANARY_ABORTED if rollout.state == "aborted" else Reason.SERVING_FAILED, text)
    if rollout.state == "blocked":
        return AgentState(False, Reason.CANARY_BLOCKED, rollout.message)
    if rollout.state == "canary":
        return AgentState(False, Reason.CANARY, rollout.message, in_progress=True)
    if rollout.state == "starting":
        trouble = rollout.trouble if rollout.trouble and rollout.trouble.lasts(now) else None
        reason = trouble.reason if trouble else Reason.STARTING
        return AgentState(False, reason, rollout.message, in_progress=True, activity=Reason.STARTING)
    if rollout.state == "scaled to zero":
        return AgentState(False, Reason.SCALED_TO_ZERO, rollout.message)
    return state


def with_drift(state: AgentState, drifts: Sequence[Drift]) -> AgentState:
    """The state, corrected by what others changed behind the operator's back."""
    text = "; ".join(drift.message for drift in drifts if drift.message)
    if not text:
        return state
    if state.up_to_date:
        return AgentState(False, Reason.DRIFTED, text)
    return replace(state, message=f"{state.message}; {text}")


def downtime(before: Downtime | None, active: Observed | None, version: str | None, now: datetime) -> Downtime | None:
    """The latest interruption: open while what serves is stopped for ``version``, closed once a version is ready with traffic."""
    stopped = annotations_of(active).get(STOPPED_AT) if active else None
    if stopped:
        return Downtime(version=version, since=stopped)
    if before is None or before.until or active is None or not active.get("status", {}).get("readyReplicas"):
        return before
    rolled_back = version_label(active) != before.version
    seconds = round(seconds_since(before.since, now))
    return before.model_copy(update={"until": timestamp(now), "seconds": seconds, "rolled_back": rolled_back})


def conditions(
    state: AgentState, serving: Serving, previous: Sequence[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Ready, UpToDate, Reconciling and Stalled."""
    make = ConditionBuilder(previous, generation, now)
    up_to_date = make(Type.UP_TO_DATE, state.up_to_date, state.reason, state.message)
    if serving.is_up:
        why = Reason.SCALED_TO_ZERO if serving.at_zero else Reason.SERVING
        ready = make(Type.READY, True, why, serving.message)
        return (ready, up_to_date, *_pair(make, False, False, why, ""))
    if serving.version is not None:
        reason = serving.reason(now)
        return (make(Type.READY, False, reason, serving.message), up_to_date, *_unavailable(make, serving, reason))
    ready = make(Type.READY, False, state.reason, state.message)
    return (ready, up_to_date, *_pair(make, state.in_progress, not state.in_progress, state.reason, state.message))


def _unavailable(make: ConditionBuilder, serving: Serving, reason: Reason) -> tuple[Condition, Condition]:
    """No pod of the active version is ready: Reconciling until the deadline, then Stalled."""
    before = find_condition(make.previous, Type.READY)
    missing_for = seconds_since(before.last_transition_time, make.now) if before and before.status == "False" else 0.0
    late = missing_for >= serving.deadline_seconds
    return _pair(make, not late, late, reason, serving.message)


def _pair(make: ConditionBuilder, reconciling: bool, stalled: bool, reason: Reason, message: str) -> tuple[Condition, Condition]:
    return (
        make(Type.RECONCILING, reconciling, reason, message if reconciling else ""),
        make(Type.STALLED, stalled, reason, message if stalled else ""),
    )


_PHASE_WHILE_SERVING = {
    Reason.COMPILING: "Recompiling",
    Reason.STARTING: "Promoting",
    Reason.CANARY: "Promoting",
    Reason.CANARY_BLOCKED: "Blocked",
    Reason.CANARY_ABORTED: "Rejected",
    Reason.GATE_FAILED: "Rejected",
    Reason.GATE_INCONCLUSIVE: "Rejected",
    Reason.AWAITING_APPROVAL: "AwaitingApproval",
    Reason.PINNED: "Pinned",
    Reason.SUSPENDED: "Suspended",
    Reason.AWAITING_TRIGGER: "AwaitingTrigger",
    Reason.SCALED_TO_ZERO: "ScaledToZero",
    **dict.fromkeys(REFUSALS, "Blocked"),
}
_PHASE_BEFORE_SERVING = {Reason.COMPILING: "Compiling", Reason.STARTING: "Starting", Reason.NOT_SERVING: "Unavailable"}
_STALLED_BY_CHOICE = {Reason.SUSPENDED, Reason.AWAITING_TRIGGER, Reason.AWAITING_APPROVAL, Reason.SCALED_TO_ZERO}
"""Stalled by the user's choice, so not a failure."""


def reason(conditions: Sequence[Condition]) -> str | None:
    """The most telling reason: of Ready if nothing answers although all is up to date, else of UpToDate."""
    ready, up_to_date = find_condition(conditions, Type.READY), find_condition(conditions, Type.UP_TO_DATE)
    silent = ready is not None and (ready.status != "True" or ready.reason == Reason.SCALED_TO_ZERO)
    if up_to_date is None or (up_to_date.status == "True" and silent):
        return ready.reason if ready else None
    return up_to_date.reason


def phase(conditions: Sequence[Condition], activity: Reason | None = None) -> str:
    """A summary of the conditions in one word. ``activity`` is the work in progress if a pod that does not run is the reason."""
    ready, up_to_date, stalled = (find_condition(conditions, kind) for kind in (Type.READY, Type.UP_TO_DATE, Type.STALLED))
    if stalled and stalled.status == "True":
        reason = Reason(stalled.reason)
        if reason in REFUSALS:
            return "Blocked"
        return _PHASE_WHILE_SERVING[reason] if reason in _STALLED_BY_CHOICE else "Failed"
    if ready is None:
        return "Pending"
    if ready.status != "True":
        never_served = up_to_date is not None and up_to_date.reason == ready.reason
        return _PHASE_BEFORE_SERVING.get(_work(ready, activity) if never_served else Reason.NOT_SERVING, "Pending")
    if up_to_date and up_to_date.status != "True":
        return _PHASE_WHILE_SERVING.get(_work(up_to_date, activity), "Outdated")
    return "ScaledToZero" if ready.reason == Reason.SCALED_TO_ZERO else "Serving"


def _work(condition: Condition, activity: Reason | None) -> Reason:
    """The condition's reason, or the work that waits for a pod."""
    reason = Reason(condition.reason)
    return activity if activity is not None and reason in POD_REASONS else reason
