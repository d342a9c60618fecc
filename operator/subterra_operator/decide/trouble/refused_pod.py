"""Why no pod could be made: the API server refused it, and only an Event or the Deployment's condition says so."""

import re

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.trouble.trouble import Place, Trouble, one_line
from subterra_operator.resources import Key, key_of
from subterra_operator.snapshot import Events, Observed
from subterra_operator.specs.stage_env.job_set import only_job_of

_POD_NAME = re.compile(r'^(Error creating: )?(pods "[^"]*" is forbidden: )?')
"""The name is another one at each try; without it the message stays the same."""
_RETRIED = "; the pod is then made by itself within minutes"
_FIXES = (
    (r"exceeded quota", "raise that ResourceQuota or free some of it, or lower {field}.resources{remake}"),
    (r"failed quota", "set what it names in {field}.resources{remake}"),
    (r"per (Container|Pod)", "keep {field}.resources within the LimitRange{remake}, or change the LimitRange"),
    (r"service account|serviceaccount", "create that ServiceAccount in this namespace"),
    (
        r"denied|PodSecurity",
        "have that admission policy admit pods with the label app.kubernetes.io/managed-by=subterra",
    ),
)


def job_without_pod(job: Observed, events: Events, place: Place) -> Trouble:
    """The trouble of an active Job that has no pod."""
    since = job.get("status", {}).get("startTime") or job["metadata"]["creationTimestamp"]
    key = maker_of_pods(job)
    refusal = next((event.message for event in events.get(key, ()) if event.reason == "FailedCreate"), None)
    if refusal is not None:
        return refused_pod(refusal, since, place, (key,))
    cause = (
        f"Job {key.name} has no pod yet" if key == key_of(job) else f"JobSet {key_of(job).name} does not have all of its pods yet"
    )
    fix = f"see kubectl describe job {key.name}; the cluster's controller manager makes the pod"
    if key != key_of(job):
        fix += f". Without that Job, see kubectl describe jobset {key_of(job).name} and whether JobSet's controller runs"
    return Trouble(Reason.POD_PENDING, cause, fix, since, event_sources=(key,))


def maker_of_pods(job: Observed) -> Key:
    """The Job that makes the pods: itself, or the one Job of a JobSet."""
    key = key_of(job)
    return Key("Job", key.namespace, only_job_of(key.name)) if key.kind == "JobSet" else key


def deployment_without_pod(deployed: Observed, place: Place) -> Trouble | None:
    """The trouble of a Deployment whose pods were refused, or `None`."""
    for item in deployed.get("status", {}).get("conditions", []):
        if item["type"] == "ReplicaFailure" and item["status"] == "True":
            return refused_pod(item.get("message", ""), item.get("lastTransitionTime"), place)
    return None


def refused_pod(refusal: str, since: str | None, place: Place, event_sources: tuple[Key, ...] = ()) -> Trouble:
    """The trouble for what the API server said when it refused a pod."""
    words = one_line(_POD_NAME.sub("", refusal))
    reason = Reason.QUOTA_EXCEEDED if re.search(r"(exceeded|failed) quota", words) else Reason.ADMISSION_DENIED
    found = next((fix for pattern, fix in _FIXES if re.search(pattern, words)), "remove the obstacle that it names")
    fix = found.format(field=place.field, remake=place.remake_after_edit)
    return Trouble(reason, f"no pod could be made: {words}", fix + _RETRIED, since, event_sources)
