"""The start of a Job's pod: what keeps it from running, how long it may, and how the Job is given up."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.decision import Write, earliest, patch, seconds_since, truncate
from subterra_operator.decide.run.attempt_labels import pod_count
from subterra_operator.decide.run.job_outcome import POD_PENDING, has_ended, true_condition
from subterra_operator.decide.run.suspension import queue_of, workload_key
from subterra_operator.decide.trouble.overdue_pod import overdue_in, overdue_pod
from subterra_operator.decide.trouble.pod_trouble import pod_trouble
from subterra_operator.decide.trouble.refused_pod import job_without_pod
from subterra_operator.decide.trouble.trouble import Place, Trouble
from subterra_operator.labels import FAILURE_REASON, SUSPENDED_BY_OPERATOR, annotations_of
from subterra_operator.resources import Object
from subterra_operator.snapshot import Events, Observed, QueuedWorkload


@dataclass(frozen=True)
class JobStart:
    """A Job that has not ended, and its pod, if the cache has it, at one moment. ``deadline``: seconds that the start may take."""

    job: Observed
    pod: Observed | None
    events: Events
    place: Place
    deadline: int
    now: datetime
    workload: QueuedWorkload | None = None
    """What Kueue says, if it was asked."""

    @cached_property
    def trouble(self) -> Trouble | None:
        """Why the pod does not run, or whom a suspended Job waits for."""
        if self.suspended:
            return self._waiting()
        if self.pod is not None and not self._lacks_pods:
            return overdue_pod(self.pod, self.now) or pod_trouble(self.pod, self.events, self.place, self.now)
        return job_without_pod(self.job, self.events, self.place) if self._never_had_pod else None

    @property
    def suspended(self) -> bool:
        """Whether the Job is suspended, or its controller has not resumed it yet, so that its startTime is an earlier one."""
        return bool(self.job["spec"].get("suspend")) or true_condition(self.job, "Suspended") is not None

    @property
    def pending(self) -> bool:
        """Whether the pod, or another one of a JobSet or RayJob, does not exist or has not started its main container."""
        if self.pod is None or self._lacks_pods:
            return not has_ended(self.job)
        phase: str = self.pod.get("status", {}).get("phase", "Pending")
        return phase == "Pending"

    @property
    def reason(self) -> Reason | None:
        """The trouble's reason, once it has lasted."""
        return self.trouble.reason if self.trouble is not None and self.trouble.lasts(self.now) else None

    @property
    def message(self) -> str:
        """What the stage's status says; empty when the pod runs undisturbed."""
        if self.trouble is not None and self.trouble.lasts(self.now):
            return self.trouble.text
        cause = self.trouble.cause if self.trouble is not None and self.trouble.reason is not Reason.POD_PENDING else ""
        if self.pending and not self.suspended:
            return f"{POD_PENDING}: {cause}" if cause else POD_PENDING
        return cause

    @property
    def seconds_left(self) -> float | None:
        """Seconds within which the pod has to start; `None` if it has started, or if the Job waits for someone."""
        if self.suspended or not self.pending or (self.pod is None and not self._never_had_pod):
            return None
        started = (self.job.get("status") or {}).get("startTime") or self.job["metadata"]["creationTimestamp"]
        return self.deadline - seconds_since(started, self.now)

    @property
    def recheck_after(self) -> float | None:
        """Seconds until more can be said about the pod although no watched object changes, or `None`."""
        overdue = overdue_in(self.pod, self.now) if self.pod is not None else None
        trouble = self.trouble.recheck_after(self.now) if self.trouble is not None else None
        return earliest((trouble, overdue if overdue and overdue > 0 else None))

    def give_up(self) -> tuple[str, Write]:
        """Why the Job is given up, and the patch that records it and has the Job controller end the Job.

        A JobSet or RayJob has no such deadline; it is deleted once its end is recorded.
        """
        cause = self.trouble.text if self.trouble is not None else "its main container has not started"
        text = truncate(f"not started within {self.deadline} s: {cause}")
        change: Object = {"metadata": {"annotations": {FAILURE_REASON: text}}}
        if self.job["kind"] == "Job":
            change["spec"] = {"activeDeadlineSeconds": 1}
        return text, patch(self.job, change)

    @property
    def _lacks_pods(self) -> bool:
        """Whether a JobSet or RayJob does not have all of its pods yet."""
        return self.job["kind"] != "Job" and self._never_had_pod

    @property
    def _never_had_pod(self) -> bool:
        """Whether the Job's controller does not know of all pods either; a deleted pod is counted before it is gone."""
        status = self.job.get("status") or {}
        numbers = [status.get(name) or 0 for name in ("active", "terminating", "failed", "succeeded")]
        counted = max(status.get("ready") or 0, sum(numbers)) >= pod_count(self.job)
        uncounted = any((status.get("uncountedTerminatedPods") or {}).values())
        return not (counted or uncounted or has_ended(self.job))

    def _waiting(self) -> Trouble | None:
        """Whom a suspended Job waits for; `None` if the operator itself suspended it, or if it is about to be resumed."""
        if SUSPENDED_BY_OPERATOR in annotations_of(self.job) or not self.job["spec"].get("suspend"):
            return None
        name, queue = self.job["metadata"]["name"], queue_of(self.job)
        if queue:
            return Trouble(Reason.QUEUED, *self._queued(queue), event_sources=(workload_key(self.job),))
        command = f'kubectl patch job {name} --patch \'{{"spec":{{"suspend":false}}}}\''
        fix = f"whoever suspended it has to resume it: {command}"
        return Trouble(Reason.JOB_SUSPENDED, f"Job {name} was suspended by someone else", fix)

    def _queued(self, queue: str) -> tuple[str, str]:
        """Cause and fix of a Job that waits for its queue."""
        cause, said = f"waiting for admission to queue {queue}", self.workload or QueuedWorkload()
        if not said.installed:
            remake = f"remove {self.place.field}.queueName and execution.queueName, {self.place.remake}"
            return f"{cause}, but this cluster has no Kueue (workloads.kueue.x-k8s.io)", f"install Kueue; or {remake}"
        cause += f": {said.words}" if said.words else ""
        if not said.active:
            command = f'kubectl patch workload {said.name} --type merge --patch \'{{"spec":{{"active":true}}}}\''
            return cause, f"whoever stopped it has to let it go on: {command}"
        return cause, f"it starts by itself; see kubectl describe localqueue {queue}"
