"""How a Job ended: read from its pod's exit code and termination message, else from the Job's own conditions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from subterra_api.job_contract.messages import RETRIED, ExitCode, StageResult
from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.decision import seconds_since
from subterra_operator.decide.run import ray_cluster
from subterra_operator.decide.run.disruption import SIGTERM_EXIT_CODE, disruption_of, words_of
from subterra_operator.decide.run.gang import telling_pod
from subterra_operator.decide.trouble.refused_pod import maker_of_pods
from subterra_operator.labels import FAILURE_REASON, annotations_of, labels_of
from subterra_operator.resources import is_deleting
from subterra_operator.snapshot import Observed

GRACE_SECONDS = 10.0
"""A Job may be seen finished before its pod is; after this long the pod's message counts as lost."""
POD_PENDING = "pod pending"
"""Message of a stage whose pod has not started, followed by the reason if it is known."""
POD_DEADLINE = "DeadlineExceeded"
"""Reason of a pod that the kubelet stopped because of its activeDeadlineSeconds, and of a Job that exceeded its own."""

REASONS = {
    ExitCode.INTERNAL: Reason.INTERNAL_ERROR,
    ExitCode.INVALID_INPUT: Reason.INVALID_INPUT,
    ExitCode.BUDGET_EXCEEDED: Reason.BUDGET_EXCEEDED,
    ExitCode.PROVIDER_BLOCKED: Reason.PROVIDER_BLOCKED,
    ExitCode.PROVIDER_UNAVAILABLE: Reason.PROVIDER_UNAVAILABLE,
    ExitCode.INFRASTRUCTURE: Reason.INFRASTRUCTURE,
}
_ENDINGS = ("Complete", "SuccessCriteriaMet", "Failed", "FailureTarget")
_EXIT_CODE = re.compile(r"exit code (\d+)")
_SIGNAL_EXIT_CODES = range(128, 160)
"""Exit codes of a process that a signal ended."""


@dataclass(frozen=True)
class JobOutcome:
    """State of a Job. ``result_missing``: it succeeded, but its pod vanished before the result was read."""

    state: Literal["running", "succeeded", "result_missing", "failed"]
    result: StageResult | None = None
    reason: Reason = Reason.RUNNING
    message: str = ""
    retried: bool = False
    """Whether the failure is of a kind that passes, so that another attempt is made."""
    wordless: bool = False
    """Whether the exit code is all that the Job left."""

    @property
    def disrupted(self) -> bool:
        """Whether the cluster ended the attempt, which counts as no failure."""
        return self.reason is Reason.DISRUPTED

    @classmethod
    def disruption(cls, words: str) -> "JobOutcome":
        """The outcome of an attempt that the cluster ended."""
        return cls("failed", None, Reason.DISRUPTED, words)


def pods_of(job: Observed, pods: Sequence[Observed]) -> list[Observed]:
    """A Job's or JobSet's own pods, in the same order; of a RayJob's the driver alone, which does the work of a Job's."""
    if job["kind"] == "RayJob":
        return ray_cluster.drivers_of(job, pods)
    return [pod for pod in pods if labels_of(pod).get("batch.kubernetes.io/job-name") == maker_of_pods(job).name]


def pod_of(job: Observed, pods: Sequence[Observed]) -> Observed | None:
    """A Job's newest pod; of a JobSet's or a RayJob's the one that tells most."""
    if job["kind"] == "RayJob":
        return ray_cluster.telling_pod(job, pods)
    own = pods_of(job, pods)
    if job["kind"] == "JobSet":
        return telling_pod(own)
    return max(own, key=lambda pod: (not is_deleting(pod), pod["metadata"]["creationTimestamp"]), default=None)


def job_outcome(job: Observed, pods: Sequence[Observed], now: datetime) -> JobOutcome:
    """The state of a Job, given all pods of its run."""
    pod = pod_of(job, pods)
    terminated = _terminated_state(pod) if pod else None
    if terminated and terminated["exitCode"] == 0 and (result := _parse_result(terminated.get("message"))):
        return JobOutcome("succeeded", result, Reason.SUCCEEDED, result.message)
    if ended := _ended_by_deadline(job, pod):
        return ended
    # Pods of a suspended Job are killed, which is no failure; of a pod that is being deleted the Job's condition says more.
    if terminated and terminated["exitCode"] != 0 and pod and not is_deleting(pod) and not true_condition(job, "Suspended"):
        if words := disruption_of(pod):
            return JobOutcome.disruption(f"the pod was ended: {words}")
        return _from_exit_code(terminated["exitCode"], terminated.get("message", ""), terminated.get("reason", ""))
    if complete := true_condition(job, "Complete") or true_condition(job, "SuccessCriteriaMet"):
        late = seconds_since(complete.get("lastTransitionTime"), now) >= GRACE_SECONDS
        return JobOutcome("result_missing") if late else JobOutcome("running")
    if failure := true_condition(job, "Failed") or true_condition(job, "FailureTarget"):
        return _from_failed_condition(failure, pod)
    return JobOutcome("running")


def _ended_by_deadline(job: Observed, pod: Observed | None) -> JobOutcome | None:
    """The outcome of a Job whose pod did not start, or did not end, in time; its containers' exit codes do not say so."""
    if given_up := annotations_of(job).get(FAILURE_REASON):
        return JobOutcome("failed", None, Reason.SCHEDULING_DEADLINE_EXCEEDED, given_up)
    status = pod.get("status", {}) if pod else {}
    if status.get("phase") == "Failed" and status.get("reason") == POD_DEADLINE:
        return JobOutcome("failed", None, Reason.DEADLINE_EXCEEDED, "the pod exceeded its activeDeadlineSeconds")
    return None


def _terminated_state(pod: Observed) -> Observed | None:
    """The terminated state of the pod's main container."""
    for status in pod.get("status", {}).get("containerStatuses", []):
        if status["name"] == "main":
            terminated: Observed | None = status.get("state", {}).get("terminated")
            return terminated
    return None


def _parse_result(message: str | None) -> StageResult | None:
    try:
        return StageResult.model_validate_json(message or "")
    except ValidationError:
        return None


def true_condition(job: Observed, kind: str) -> Observed | None:
    """A Job's condition of a type if it is True, else `None`."""
    conditions: list[Observed] = job.get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == kind and item["status"] == "True"), None)


def has_ended(job: Observed) -> bool:
    """Whether a Job's controller has ended it, or is about to."""
    return any(true_condition(job, kind) for kind in _ENDINGS)


def _from_exit_code(code: int, message: str, reason: str) -> JobOutcome:
    if reason == "OOMKilled":
        return JobOutcome("failed", None, Reason.OUT_OF_MEMORY, "the container ran out of memory")
    if code == SIGTERM_EXIT_CODE:
        return JobOutcome.disruption("the pod was asked to end (signal 15), as by a drain or a node that shuts down")
    if code in _SIGNAL_EXIT_CODES:
        return JobOutcome("failed", None, Reason.INFRASTRUCTURE, f"the pod was killed by signal {code - 128}", retried=True)
    known = ExitCode(code) if code in ExitCode.__members__.values() else ExitCode.INTERNAL
    words, retried = message.strip(), known in RETRIED
    return JobOutcome("failed", None, REASONS[known], words or f"exit code {code}", retried, wordless=not words)


def _from_failed_condition(failure: Observed, pod: Observed | None) -> JobOutcome:
    """Outcome of a failed Job whose pod is gone: its condition names the deadline or the exit code."""
    if failure.get("reason") == POD_DEADLINE:
        return JobOutcome("failed", None, Reason.DEADLINE_EXCEEDED, "the Job exceeded its activeDeadlineSeconds")
    if failure.get("reason") == ray_cluster.VALIDATION_FAILED:
        return JobOutcome("failed", None, Reason.INVALID_SPEC, f"KubeRay refuses the RayJob: {failure.get('message', '')}")
    if match := _EXIT_CODE.search(failure.get("message", "")):
        return _from_exit_code(int(match.group(1)), "", "")
    if pod is None:
        return JobOutcome.disruption("the pod was evicted or deleted")
    if words := disruption_of(pod):
        return JobOutcome.disruption(f"the pod was ended: {words}")
    if not (words := words_of(pod.get("status", {}))):
        return JobOutcome.disruption("the pod was evicted or deleted")
    return JobOutcome("failed", None, Reason.INFRASTRUCTURE, f"the pod failed: {words}", retried=True)
