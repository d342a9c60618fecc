"""A pod that had to end and whose node does not say that it has: until then its Job neither fails nor starts another one."""

from datetime import datetime

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.decision import seconds_since
from subterra_operator.decide.trouble.trouble import GRACE_SECONDS, Trouble
from subterra_operator.snapshot import Observed


def taint_command(node: str) -> str:
    """The command that has the cluster end a switched-off node's pods and detach its volumes."""
    return f"kubectl taint node {node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


def overdue_in(pod: Observed, now: datetime) -> float | None:
    """Seconds until a deleted pod is overdue, at most 0 if it is; `None` for one that nobody deleted or that has ended."""
    due = pod["metadata"].get("deletionTimestamp")  # when its grace period ends
    if due is None or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return None
    return GRACE_SECONDS - seconds_since(due, now)


def overdue_pod(pod: Observed, now: datetime) -> Trouble | None:
    """The trouble of an overdue pod, else `None`."""
    node, left = pod.get("spec", {}).get("nodeName"), overdue_in(pod, now)
    if node is None or left is None or left > 0:
        return None
    cause = f"pod {pod['metadata']['name']} was ended, and node {node} does not confirm that it has stopped"
    fix = "the next attempt begins once it has. Repair the node or, if it is gone for good, run"
    return Trouble(
        Reason.DISRUPTED, cause, f"{fix} kubectl delete node {node}; if it is switched off for a while, run {taint_command(node)}"
    )
