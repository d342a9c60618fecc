"""What keeps one pod from running, as far as the API server knows."""

from dataclasses import replace
from datetime import datetime

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.trouble.container_trouble import container_states, restart_trouble, waiting_trouble
from subterra_operator.decide.trouble.overdue_pod import taint_command
from subterra_operator.decide.trouble.trouble import Place, Trouble
from subterra_operator.decide.trouble.unschedulable_pod import pod_events, scheduled_condition, unschedulable
from subterra_operator.resources import is_deleting, key_of
from subterra_operator.snapshot import Events, Observed

_VOLUME_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")


def pod_trouble(pod: Observed, events: Events, place: Place, now: datetime) -> Trouble | None:
    """Why a pod does not run; `None` if nothing keeps it from running, or if it has ended."""
    status = pod.get("status", {})
    if is_deleting(pod) or status.get("phase") in ("Succeeded", "Failed"):
        return None
    scheduled = scheduled_condition(pod)
    if scheduled is not None and scheduled["status"] == "False":
        return unschedulable(pod, scheduled, events, place)
    since = status.get("startTime") or pod["metadata"]["creationTimestamp"]
    for container, runs_once in container_states(pod):
        trouble = waiting_trouble(container, since, place) or restart_trouble(pod, container, runs_once, place, now)
        if trouble is not None:
            return _with_probe(trouble, pod, events)
    return _not_started(pod, since, events) if status.get("phase", "Pending") == "Pending" else None


def _with_probe(trouble: Trouble, pod: Observed, events: Events) -> Trouble:
    """The trouble of a killed container with the words of the probe that failed; only an Event has them."""
    words = next((message for reason, message in pod_events(pod, events) if reason == "Unhealthy"), "")
    return replace(trouble, cause=f"{trouble.cause}; {words}") if trouble.event_sources and words else trouble


def _volume_fix(message: str) -> str:
    if "Multi-Attach error" in message:
        off = f"if that node is switched off, run {taint_command('NODE')}"
        return f"the node that has the volume has to let go of it, once its pods there have ended; {off}"
    return "mend the volume, its driver or what it names; the kubelet tries again by itself"


def _not_started(pod: Observed, since: str, events: Events) -> Trouble | None:
    """The trouble of a pod none of whose containers has started, although the kubelet has reported no error about one."""
    if any({"running", "terminated"} & container.get("state", {}).keys() for container, _ in container_states(pod)):
        return None  # sidecars load a model, or an init container works
    name, sources = pod["metadata"]["name"], (key_of(pod),)
    words = [(reason, message) for reason, message in pod_events(pod, events) if reason not in ("Unhealthy", "BackOff")]
    if words:
        kind, message = words[0]
        if kind in _VOLUME_EVENTS:
            return Trouble(Reason.VOLUME_MOUNT_FAILED, f"{kind}: {message}", _volume_fix(message), since, sources)
        return Trouble(Reason.POD_PENDING, f"{kind}: {message}", "remove that obstacle on the node", since, sources)
    if scheduled_condition(pod) is None and not pod.get("status", {}).get("startTime"):
        text = f"no scheduler has looked at pod {name}"
        return Trouble(Reason.POD_PENDING, text, "check that the cluster's scheduler runs", since, sources)
    text = f"the node has not started pod {name} yet; it may be pulling a large image"
    return Trouble(Reason.POD_PENDING, text, f"if it lasts, see kubectl describe pod {name}", since, sources)
