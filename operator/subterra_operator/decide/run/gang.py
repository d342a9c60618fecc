"""A JobSet and its pods, seen as the Job of an attempt: decisions then need no second set of rules."""

from collections.abc import Iterable, Sequence

from subterra_api.job_contract.messages import LOST_CONTACT
from subterra_operator.decide.run.disruption import disruption_of
from subterra_operator.labels import labels_of
from subterra_operator.resources import Object, is_deleting
from subterra_operator.snapshot import Observed

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
_TYPES = {"Completed": "Complete", "Failed": "Failed", "Suspended": "Suspended"}
"""A JobSet's conditions by the names that a Job's have."""


def as_job(job_set: Observed, members: Iterable[Observed]) -> Observed:
    """The JobSet with the status of its one Job, which counts pods and knows exit codes, and with the JobSet's own conditions."""
    uid = job_set["metadata"]["uid"]
    member = next((job for job in members if _controlled_by(job, uid)), None)
    status = dict((member or {}).get("status") or {})
    conditions = [item for item in status.get("conditions", ()) if item["type"] != "Suspended"]
    known = {item["type"] for item in conditions if item["status"] == "True"}
    for item in (job_set.get("status") or {}).get("conditions", ()):
        if (kind := _TYPES.get(item["type"])) and kind not in known:
            conditions.append({**item, "type": kind})
    return {**job_set, "spec": job_set.get("spec") or {}, "status": {**status, "conditions": conditions}}


def _controlled_by(job: Observed, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in job["metadata"].get("ownerReferences") or ())


def telling_pod(pods: Sequence[Observed]) -> Observed | None:
    """The pod whose state is that of all: the first that failed, else one that has not started, else that of node 0.

    Of failures a disruption comes first, and a pod that lost contact with another last.
    """
    current = _newest_by_index(pods)
    failed = [pod for pod in current if _failed(pod)]
    if failed:
        return min(failed, key=_order_of_causes)
    pending = (pod for pod in current if pod.get("status", {}).get("phase", "Pending") == "Pending")
    return next(pending, current[0] if current else None)


def _newest_by_index(pods: Sequence[Observed]) -> list[Observed]:
    newest = dict[int, Observed]()
    for pod in sorted(pods, key=lambda pod: (not is_deleting(pod), pod["metadata"]["creationTimestamp"])):
        newest[int(labels_of(pod).get(INDEX_LABEL, 0))] = pod
    return [newest[index] for index in sorted(newest)]


def _failed(pod: Observed) -> bool:
    return not is_deleting(pod) and (pod.get("status", {}).get("phase") == "Failed" or main_ended(pod).get("exitCode", 0) != 0)


def _order_of_causes(pod: Observed) -> tuple[bool, bool, str]:
    ended = main_ended(pod)
    return disruption_of(pod) is None, LOST_CONTACT in ended.get("message", ""), str(ended.get("finishedAt") or "")


def main_ended(pod: Observed) -> Object:
    """How a pod's main container ended; empty if it has not."""
    for status in pod.get("status", {}).get("containerStatuses", ()):
        if status["name"] == "main":
            return dict(status.get("state", {}).get("terminated") or {})
    return {}
