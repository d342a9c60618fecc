"""Pods whose work has ended and is recorded, and that go on: a proxy that a service mesh injected does not end with the stage.

They would hold their node, and its GPUs, until their deadline. Native sidecars, such as our own, end by themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from subterra_api.job_contract.environment import TRAIN_GRACE_SECONDS
from subterra_operator.decide.decision import Write, earliest, patch, seconds_since
from subterra_operator.decide.run.gang import main_ended
from subterra_operator.decide.run.job_outcome import has_ended, pods_of
from subterra_operator.resources import is_deleting
from subterra_operator.snapshot import Observed

GRACE_SECONDS = TRAIN_GRACE_SECONDS + 60.0
"""How long after a pod's main container its others may go on: longer than the kubelet lets native sidecars take in any stage."""


@dataclass(frozen=True)
class Leftovers:
    """What ends them, and when to look again."""

    writes: tuple[Write, ...] = ()
    deletes: tuple[Observed, ...] = ()
    recheck_after: float | None = None


def leftovers(ended: Sequence[Observed], pods: Sequence[Observed], now: datetime) -> Leftovers:
    """The end of what is left of ``ended`` Jobs, whose outcome is recorded: the Job controller ends it, at a deadline.

    A JobSet has no deadline; it is deleted.
    """
    left = {job["metadata"]["uid"]: _seconds_left(pods_of(job, pods), now) for job in ended if _goes_on(job)}
    due = [job for job in ended if (seconds := left.get(job["metadata"]["uid"])) is not None and seconds <= 0]
    return Leftovers(
        tuple(patch(job, {"spec": {"activeDeadlineSeconds": 1}}) for job in due if job["kind"] == "Job"),
        tuple(job for job in due if job["kind"] != "Job"),
        earliest(seconds for seconds in left.values() if seconds is not None and seconds > 0),
    )


def _goes_on(job: Observed) -> bool:
    return not is_deleting(job) and not has_ended(job)


def _seconds_left(pods: Sequence[Observed], now: datetime) -> float | None:
    """Seconds until pods whose main containers have all ended are due; `None` if one still works, or none is left."""
    running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running" and not is_deleting(pod)]
    ends = [main_ended(pod).get("finishedAt") for pod in running]
    if not ends or not all(ends):
        return None
    return GRACE_SECONDS - min(seconds_since(end, now) for end in ends)
