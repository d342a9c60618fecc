"""How an agent's state reads: Ready says whether it serves, UpToDate whether it serves what the procedure says.

While something serves, work in progress or a refused candidate is neither Reconciling nor Stalled: tools that wait for those would
wait for hours, or call a healthy service broken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from subterra_api.v1alpha1.base import Condition
from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_operator.decide.agent.candidate import Story
from subterra_operator.decide.agent.rollout import Rollout
from subterra_operator.decide.decision import Conditions, find, seconds_since
from subterra_operator.labels import VERSION_LABEL, labels
from subterra_operator.snapshot import Seen


@dataclass(frozen=True)
class Served:
    """What has traffic. ``ready`` counts its ready replicas; ``wanted`` how many there should be."""

    version: str | None = None
    ready: int = 0
    wanted: int = 0
    trouble: str = ""
    patience: int = 900
    """Seconds until missing pods are a person's business."""

    @classmethod
    def of(cls, active: Seen | None, trouble: str, patience: int = 900) -> "Served":
        """What a Deployment serves; nothing when there is none."""
        if active is None:
            return cls(patience=patience)
        ready, wanted = active.get("status", {}).get("readyReplicas", 0), active["spec"].get("replicas", 0)
        return cls(labels(active).get(VERSION_LABEL), ready, wanted, trouble, patience)

    @property
    def working(self) -> bool:
        return self.version is not None and (self.ready > 0 or self.wanted == 0)

    @property
    def message(self) -> str:
        if self.wanted == 0:
            return f"version {self.version} is scaled to zero; raise spec.serving.replicas to serve"
        if self.working:
            return f"version {self.version} serves with {self.ready} of {self.wanted} replicas"
        return f"no replica of version {self.version} is ready" + (f": {self.trouble}" if self.trouble else "")


def told_story(story: Story, rollout: Rollout) -> Story:
    """The plan's story, corrected by how far the rollout is."""
    if rollout.state == "failed":
        text = f"{rollout.message}; correct spec.serving, or set the annotation subterra.dev/retryAt to try again"
        return Story(False, Reason.SERVING_FAILED, text)
    if rollout.state == "starting":
        return Story(False, Reason.STARTING, rollout.message, working=True)
    return story


def conditions(
    story: Story, served: Served, previous: Sequence[Condition], generation: int, now: datetime
) -> tuple[Condition, ...]:  # fmt: skip
    """Ready, UpToDate, Reconciling and Stalled."""
    make = Conditions(previous, generation, now)
    up_to_date = make(Type.UP_TO_DATE, story.up_to_date, story.reason, story.message)
    if served.working:
        ready = make(Type.READY, True, Reason.SERVING, served.message)
        return (ready, up_to_date, *_pair(make, False, False, Reason.SERVING, ""))
    if served.version is not None:
        return (make(Type.READY, False, Reason.NOT_SERVING, served.message), up_to_date, *_waiting(make, served))
    ready = make(Type.READY, False, story.reason, story.message)
    return (ready, up_to_date, *_pair(make, story.working, not story.working, story.reason, story.message))


def _waiting(make: Conditions, served: Served) -> tuple[Condition, Condition]:
    """Pods that had traffic are gone: they come back, or a person is needed."""
    before = find(make.previous, Type.READY)
    away = seconds_since(before.last_transition_time, make.now) if before and before.status == "False" else 0.0
    late = away >= served.patience
    return _pair(make, not late, late, Reason.NOT_SERVING, served.message)


def _pair(make: Conditions, working: bool, stalled: bool, reason: Reason, message: str) -> tuple[Condition, Condition]:
    return (
        make(Type.RECONCILING, working, reason, message if working else ""),
        make(Type.STALLED, stalled, reason, message if stalled else ""),
    )


_BEHIND = {
    Reason.COMPILING: "Recompiling", Reason.STARTING: "Promoting", Reason.GATE_FAILED: "Rejected",
    Reason.GATE_INCONCLUSIVE: "Rejected", Reason.AWAITING_APPROVAL: "AwaitingApproval", Reason.PINNED: "Pinned",
    Reason.SUSPENDED: "Suspended", Reason.AWAITING_TRIGGER: "AwaitingTrigger",
}  # fmt: skip
_FIRST = {Reason.COMPILING: "Compiling", Reason.STARTING: "Starting", Reason.NOT_SERVING: "Unavailable"}
_CHOSEN = {Reason.SUSPENDED, Reason.AWAITING_TRIGGER, Reason.AWAITING_APPROVAL}
"""Stalled because a person wanted it so."""


def phase(told: Sequence[Condition]) -> str:
    """One word for tools that want one."""
    ready, up_to_date, stalled = (find(told, kind) for kind in (Type.READY, Type.UP_TO_DATE, Type.STALLED))
    if stalled and stalled.status == "True":
        reason = Reason(stalled.reason)
        return _BEHIND[reason] if reason in _CHOSEN else "Failed"
    if ready is None or ready.status != "True":
        return _FIRST.get(Reason(ready.reason), "Pending") if ready else "Pending"
    if up_to_date and up_to_date.status != "True":
        return _BEHIND.get(Reason(up_to_date.reason), "Outdated")
    return "Serving"
