"""Ends of pods that no workload is to blame for: evictions, drains, preemption, nodes that go away, deletions.

They count as no failed attempt. The stage goes on with its finished work, after pauses that grow while it gets nowhere.
"""

from subterra_api.v1alpha1.compilerun import StageStatus
from subterra_operator.decide.trouble.trouble import one_line
from subterra_operator.snapshot import Observed

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 20.0, 900.0
SIGTERM_EXIT_CODE = 143
"""Exit code of a stage that was asked to end before its deadline."""
DISRUPTED_STATUS = ("Evicted", "Preempted", "NodeShutdown", "Terminated", "NodeLost", "Shutdown")
"""Reasons in the status of pods that kubelet or scheduler stopped for reasons of the node."""
_OWN_FAULT = ("exceeds the total limit", "exceeded its local ephemeral storage limit", "usage of EmptyDir volume")
"""The kubelet's words when it evicts a pod that used more disk than it may, which it would do again."""


def disruption_of(pod: Observed) -> str | None:
    """The cluster's words for the disruption that ended a pod; `None` if the pod ended by itself or by its own fault."""
    status = pod.get("status", {})
    if any(words in status.get("message", "") for words in _OWN_FAULT):
        return None
    for condition in status.get("conditions", ()):
        if (condition["type"], condition["status"]) == ("DisruptionTarget", "True"):
            return words_of(condition)
    return words_of(status) if status.get("reason") in DISRUPTED_STATUS else None


def disruptions_after(recorded: StageStatus) -> int:
    """Disruptions in a row, with the one that has just ended an attempt. Progress ends a row when it is reported."""
    return 1 + (recorded.disruptions or 0)


def wait_seconds(disruptions: int) -> float:
    """Seconds before the next attempt."""
    return float(min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (disruptions - 1)))


def words_of(source: Observed) -> str:
    """Reason and message of a status or condition, as one line; empty without either."""
    return ": ".join(filter(None, (source.get("reason"), one_line(source.get("message", "")))))
