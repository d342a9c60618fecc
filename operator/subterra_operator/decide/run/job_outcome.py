"""What became of a Job: read from its pod's exit code and termination message, else from its own condition."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from subterra_api.job_contract.messages import RETRIED, ExitCode, StageResult
from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.decision import seconds_since
from subterra_operator.labels import ATTACH, ATTEMPT, labels
from subterra_operator.resources import deleting
from subterra_operator.snapshot import Seen

GRACE_SECONDS = 10.0
"""A Job may be seen finished before its pod is; after this long the pod's message counts as lost."""

REASONS = {
    ExitCode.INTERNAL: Reason.INTERNAL_ERROR,
    ExitCode.INVALID_INPUT: Reason.INVALID_INPUT,
    ExitCode.BUDGET_EXCEEDED: Reason.BUDGET_EXCEEDED,
    ExitCode.PROVIDER_BLOCKED: Reason.PROVIDER_BLOCKED,
    ExitCode.PROVIDER_UNAVAILABLE: Reason.PROVIDER_UNAVAILABLE,
    ExitCode.INFRASTRUCTURE: Reason.INFRASTRUCTURE,
}
_EXIT_CODE = re.compile(r"exit code (\d+)")
_KILLED = range(128, 160)
"""Exit codes of a process that a signal ended: eviction, node shutdown."""


@dataclass(frozen=True)
class Finding:
    """How a Job is doing. ``lost``: it succeeded, and nobody heard what it said."""

    state: Literal["running", "succeeded", "lost", "failed"]
    result: StageResult | None = None
    reason: Reason = Reason.RUNNING
    message: str = ""
    retried: bool = False


def attempt_of(job: Seen) -> int:
    """The attempt that a Job is."""
    return int(labels(job)[ATTEMPT])


def is_attach(job: Seen) -> bool:
    """Whether a Job only reads a result back."""
    return labels(job)[ATTACH] == "true"


def pod_of(job: Seen, pods: Sequence[Seen]) -> Seen | None:
    """A Job's newest pod."""
    own = [pod for pod in pods if labels(pod).get("batch.kubernetes.io/job-name") == job["metadata"]["name"]]
    return max(own, key=lambda pod: (not deleting(pod), pod["metadata"]["creationTimestamp"]), default=None)


def inspect(job: Seen, pods: Sequence[Seen], now: datetime) -> Finding:
    """What became of a Job."""
    pod = pod_of(job, pods)
    ended = _terminated(pod) if pod else None
    if ended and ended["exitCode"] == 0 and (result := _result(ended.get("message"))):
        return Finding("succeeded", result, Reason.SUCCEEDED, result.message)
    # A suspended Job's pod is killed; that is no failure. Nor is one that is being deleted: the Job tells.
    if ended and ended["exitCode"] != 0 and pod and not deleting(pod) and not _condition(job, "Suspended"):
        return _failed(ended["exitCode"], ended.get("message", ""), ended.get("reason", ""))
    if complete := _condition(job, "Complete") or _condition(job, "SuccessCriteriaMet"):
        late = seconds_since(complete.get("lastTransitionTime"), now) >= GRACE_SECONDS
        return Finding("lost") if late else Finding("running")
    if failure := _condition(job, "Failed") or _condition(job, "FailureTarget"):
        return _condemned(failure)
    return Finding("running", message=trouble(pod) if pod else "")


def _terminated(pod: Seen) -> Seen | None:
    for status in pod.get("status", {}).get("containerStatuses", []):
        if status["name"] == "main":
            found: Seen | None = status.get("state", {}).get("terminated")
            return found
    return None


def _result(message: str | None) -> StageResult | None:
    try:
        return StageResult.model_validate_json(message or "")
    except ValidationError:
        return None


def _condition(job: Seen, kind: str) -> Seen | None:
    conditions: list[Seen] = job.get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == kind and item["status"] == "True"), None)


def _failed(code: int, message: str, reason: str) -> Finding:
    if reason == "OOMKilled":
        text = "the container ran out of memory; raise the stage's resources.limits.memory"
        return Finding("failed", None, Reason.INFRASTRUCTURE, text)
    if code in _KILLED:
        return Finding("failed", None, Reason.INFRASTRUCTURE, f"the pod was killed by signal {code - 128}", retried=True)
    known = ExitCode(code) if code in ExitCode.__members__.values() else ExitCode.INTERNAL
    return Finding("failed", None, REASONS[known], message.strip() or f"exit code {code}", retried=known in RETRIED)


def _condemned(failure: Seen) -> Finding:
    """A failed Job without a pod to ask: the condition tells the deadline or the exit code, else the pod vanished."""
    message = failure.get("message", "")
    if failure.get("reason") == "DeadlineExceeded":
        return Finding("failed", None, Reason.DEADLINE_EXCEEDED, "the Job took longer than its activeDeadlineSeconds")
    if found := _EXIT_CODE.search(message):
        return _failed(int(found.group(1)), "", "")
    return Finding("failed", None, Reason.INFRASTRUCTURE, "the pod was evicted or vanished", retried=True)


def trouble(pod: Seen) -> str:
    """What keeps a pod from running, as far as the API server knows; empty when nothing does."""
    status = pod.get("status", {})
    for item in status.get("conditions", []):
        if item["type"] == "PodScheduled" and item["status"] == "False":
            return f"the pod cannot be scheduled: {item.get('message', item.get('reason', ''))}"
    for item in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = item.get("state", {}).get("waiting", {})
        if waiting.get("reason", "PodInitializing") not in ("PodInitializing", "ContainerCreating"):
            return f"container {item['name']}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    return ""
