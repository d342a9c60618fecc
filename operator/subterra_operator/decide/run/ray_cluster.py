"""A RayJob and its pods, seen as the Job of an attempt, as `gang.py` does for a JobSet."""

from collections.abc import Sequence

from subterra_operator.decide.run.attempt_labels import attempt_of, pod_count
from subterra_operator.decide.run.disruption import disruption_of
from subterra_operator.decide.run.gang import main_ended
from subterra_operator.labels import ATTEMPT_LABEL, RAY_LABEL, labels_of
from subterra_operator.resources import Object, is_deleting
from subterra_operator.snapshot import Observed

VALIDATION_FAILED = "ValidationFailed"
"""KubeRay's status, and the reason, of a RayJob that it refuses to run."""
_TYPES = {
    "Complete": "Complete",
    "Failed": "Failed",
    VALIDATION_FAILED: "Failed",
    "Suspending": "Suspended",
    "Suspended": "Suspended",
}
"""A Job's conditions by what KubeRay says about the deployment of a RayJob."""
_OVER_A_DRIVER = ("DeadlineExceeded",)
"""Reasons of a failed RayJob that count although its driver goes on."""
_ROLES = ("driver", "head", "worker")


def as_job(ray_job: Observed, pods: Sequence[Observed]) -> Observed:
    """The RayJob with a Job's status. Its pods count as complete when the driver is there, which is made last."""
    status, own = ray_job.get("status") or {}, pods_of(ray_job, pods)
    count = pod_count(ray_job)
    waits = any(_is_pending(pod) for pod in own)
    active = count if waits or (own and _role(own[0]) == "driver") else min(len(own), count - 1)
    seen: Object = {"active": active, "conditions": [] if _is_early(status, own) else _conditions(status)}
    kept = {name: status[name] for name in ("startTime", "rayClusterName") if status.get(name)}
    return {**ray_job, "spec": ray_job.get("spec") or {}, "status": seen | kept}


def pods_of(ray_job: Observed, pods: Sequence[Observed]) -> list[Observed]:
    """Its pods, the driver first, then the head; of each role those that are being deleted last, and the newest first."""
    attempt = str(attempt_of(ray_job))
    own = [pod for pod in pods if labels_of(pod).get(RAY_LABEL) in _ROLES and labels_of(pod).get(ATTEMPT_LABEL) == attempt]
    own.sort(key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)
    return sorted(own, key=lambda pod: (_ROLES.index(_role(pod)), is_deleting(pod)))


def drivers_of(ray_job: Observed, pods: Sequence[Observed]) -> list[Observed]:
    """Its pods that are drivers: one, unless the first was made again."""
    return [pod for pod in pods_of(ray_job, pods) if _role(pod) == "driver"]


def telling_pod(ray_job: Observed, pods: Sequence[Observed]) -> Observed | None:
    """The pod whose state is that of the attempt: a head that the cluster ended, else the driver, else one that has not started.

    A worker that dies is replaced by KubeRay, and its work is done by the others.
    """
    own = pods_of(ray_job, pods)
    head = next((pod for pod in own if _role(pod) == "head"), None)
    if head is not None and _has_failed(head) and disruption_of(head):
        return head
    if own and _role(own[0]) == "driver":
        return own[0]
    return next((pod for pod in own if _is_pending(pod)), own[0] if own else None)


def _conditions(status: Observed) -> list[Object]:
    state = status.get("jobDeploymentStatus") or ""
    if state not in _TYPES:
        return []
    about = {"reason": status.get("reason") or state, "message": status.get("message") or ""}
    return [{"type": _TYPES[state], "status": "True", "lastTransitionTime": status.get("endTime"), **about}]


def _is_early(status: Observed, own: Sequence[Observed]) -> bool:
    """Whether the driver goes on with what comes after Ray: checks, files, the store.

    KubeRay ends a RayJob 5 minutes after the driver has left Ray, whatever its pod does then.
    """
    ended = status.get("jobDeploymentStatus") in ("Complete", "Failed") and status.get("reason") not in _OVER_A_DRIVER
    return ended and any(_role(pod) == "driver" and _is_at_work(pod) for pod in own)


def _is_at_work(pod: Observed) -> bool:
    phase = pod.get("status", {}).get("phase", "Pending")
    return not is_deleting(pod) and phase in ("Pending", "Running") and not main_ended(pod)


def _role(pod: Observed) -> str:
    return labels_of(pod)[RAY_LABEL]


def _is_pending(pod: Observed) -> bool:
    return not is_deleting(pod) and pod.get("status", {}).get("phase", "Pending") == "Pending"


def _has_failed(pod: Observed) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Failed")
