"""Why the scheduler finds no node for a pod, with the volume claim's own story."""

import re

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.trouble.trouble import Place, Trouble, one_line
from subterra_operator.resources import Key, key_of
from subterra_operator.snapshot import Events, Observed

_PREEMPTION = re.compile(r"\.?\s*(no new claims to deallocate,?\s*)?preemption:.*$", re.DOTALL)
"""What the scheduler adds about other pods that it might evict; it explains nothing."""
_CLAIM_MISSING = re.compile(r'persistentvolumeclaim "[^"]*" not found')
_UNBOUND = "unbound immediate PersistentVolumeClaims"


def unschedulable(pod: Observed, scheduled: Observed, events: Events, place: Place) -> Trouble:
    """The trouble of a pod whose condition PodScheduled is False."""
    words = scheduled.get("message") or scheduled.get("reason") or "the scheduler gives no reason"
    since = scheduled.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"]
    if scheduled.get("reason") == "SchedulingGated":
        return Trouble(Reason.QUEUED, one_line(words), "it starts once whoever set the scheduling gate removes it")
    words = one_line(_PREEMPTION.sub("", words)).rstrip(".")
    if _CLAIM_MISSING.search(words):
        fix = "the operator creates the claim again; what the old one held is lost and has to be made again"
        return Trouble(Reason.UNSCHEDULABLE, f"unschedulable: {words}", fix, since, claim_missing=True)
    if _UNBOUND in words:
        return _unbound_claim(pod, words, since, events, place)
    return Trouble(Reason.UNSCHEDULABLE, f"unschedulable: {words}", _fix(words, place), since)


def _unbound_claim(pod: Observed, words: str, since: str, events: Events, place: Place) -> Trouble:
    claim = Key("PersistentVolumeClaim", pod["metadata"]["namespace"], place.claim)
    story = next((one_line(event.message) for event in events.get(claim, ())), "")
    cause = f"unschedulable: claim {place.claim} is not bound" + (f": {story}" if story else f": {words}")
    if "storageclass" in story and "not found" in story:
        fix = f"create that StorageClass, or correct the chart's store.storageClass and delete claim {place.claim}"
    else:
        fix = f"see kubectl describe pvc {place.claim}; the cluster needs a provisioner or a matching volume"
    return Trouble(Reason.UNSCHEDULABLE, cause, fix, since, event_sources=(claim,))


_FIXES = (
    (r"Insufficient |Too many pods", "free a node or add one with room, or lower {field}.resources.requests{remake}"),
    (r"affinity/selector", "label a node accordingly, or correct {field}.nodeSelector{remake}"),
    (r"untolerated taint", "tolerate the taint in {field}.tolerations{remake}, or remove it from a node"),
    (r"volume node affinity conflict", "add a node where claim {claim} has its volume"),
    (r"unschedulable", "uncordon a node"),
)


def _fix(words: str, place: Place) -> str:
    """The fixes for all obstacles that the scheduler names."""
    found = [fix for pattern, fix in _FIXES if re.search(pattern, words)] or ["make a node suitable for the pod"]
    parts = {"field": place.field, "claim": place.claim, "remake": place.remake_after_edit}
    return "; or ".join(fix.format(**parts) for fix in found)


def scheduled_condition(pod: Observed) -> Observed | None:
    """The pod's condition PodScheduled, or `None` before a scheduler has looked at it."""
    conditions = pod.get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == "PodScheduled"), None)


def pod_events(pod: Observed, events: Events) -> list[tuple[str, str]]:
    """Reason and message of the warnings about a pod, newest first, without those from before it had a node."""
    return [(event.reason, one_line(event.message)) for event in events.get(key_of(pod), ()) if event.reason != "FailedScheduling"]
