"""How a Job, or a JobSet, is suspended with its run: directly, or through Kueue if that admits it.

Kueue resumes whatever it has admitted, so with a queue the operator stops the Workload instead, and Kueue suspends the Job.
"""

from dataclasses import dataclass

from subterra_operator.decide.decision import Write, patch
from subterra_operator.labels import SUSPENDED_BY_OPERATOR, annotations_of, labels_of
from subterra_operator.resources import Key, Object
from subterra_operator.snapshot import Observed, QueuedWorkload
from subterra_operator.specs.stage_job import KUEUE_QUEUE_LABEL


@dataclass(frozen=True)
class Suspension:
    """What makes a Job's suspension follow its run's."""

    writes: tuple[Write, ...] = ()
    lookups: tuple[Key, ...] = ()
    """The Workload that must be known before anything can be written."""


def queue_of(job: Observed) -> str | None:
    """The Kueue queue that admits a Job."""
    return labels_of(job).get(KUEUE_QUEUE_LABEL)


def workload_key(job: Observed) -> Key:
    """The key by which Kueue's word about a Job is looked up."""
    return Key("Workload", job["metadata"]["namespace"], job["metadata"]["uid"])


def suspension(job: Observed, workload: QueuedWorkload | None, *, wanted: bool) -> Suspension:
    """The writes with which the Job becomes suspended or goes on, unless someone else suspended it."""
    suspended, by_operator = job["spec"].get("suspend", False), SUSPENDED_BY_OPERATOR in annotations_of(job)
    if queue_of(job) and (workload is None or workload.installed):
        return _through_kueue(job, workload, wanted=wanted)
    if wanted and not suspended:
        return Suspension((_marked(job, "true", {"suspend": True}),))
    if not wanted and suspended and by_operator:
        return Suspension((_marked(job, None, {"suspend": False}),))
    return Suspension()


def _through_kueue(job: Observed, workload: QueuedWorkload | None, *, wanted: bool) -> Suspension:
    suspended, by_operator = job["spec"].get("suspend", False), SUSPENDED_BY_OPERATOR in annotations_of(job)
    if by_operator == wanted and (suspended or not wanted):
        return Suspension()
    if workload is None or not workload.name:
        return Suspension(lookups=(workload_key(job),))
    metadata = {"name": workload.name, "namespace": job["metadata"]["namespace"]}
    active = {"apiVersion": workload.api_version, "kind": "Workload", "metadata": metadata, "spec": {"active": not wanted}}
    mark = () if by_operator == wanted else (_marked(job, "true" if wanted else None, {}),)
    return Suspension((Write("patch", active), *mark))


def _marked(job: Observed, mark: str | None, spec: Object) -> Write:
    change: Object = {"metadata": {"annotations": {SUSPENDED_BY_OPERATOR: mark}}}
    return patch(job, change | ({"spec": spec} if spec else {}))
