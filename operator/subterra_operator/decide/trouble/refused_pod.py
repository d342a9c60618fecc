"""Why no pod could be made: the API server refused it, and only an Event or the Deployment's condition says so."""

import re

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.trouble.trouble import Place, Trouble, one_line
from subterra_operator.resources import Key, key_of
from subterra_operator.snapshot import Events, Observed
from subterra_operator.specs.stage_env.job_set import only_job_of

_POD_NAME = re.compile(r'^(Error creating: |Failed to create [^,]*, )?(pods "[^"]*" is forbidden: )?')
"""The name is another one at each try; without it the message stays the same."""
_FAILED = ("FailedCreate", "FailedToCreate")
"""How the reasons of Events begin that tell of a pod that could not be made: those of Kubernetes, and those of KubeRay."""
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
    """The trouble of an active Job that has no pod, or of a JobSet or RayJob that lacks some."""
    since = job.get("status", {}).get("startTime") or job["metadata"]["creationTimestamp"]
    key, maker = key_of(job), maker_of_pods(job)
    sources = tuple(dict.fromkeys((maker, key))) if key.kind == "RayJob" else (maker,)
    warned = (event for source in sources for event in events.get(source, ()))
    refusal = next((event.message for event in warned if event.reason.startswith(_FAILED)), None)
    if refusal is not None:
        return refused_pod(refusal, since, place, sources)
    return Trouble(Reason.POD_PENDING, *_not_made(key, maker), since, event_sources=sources)


def _not_made(key: Key, maker: Key) -> tuple[str, str]:
    """Cause and fix where nobody says why a pod is missing."""
    makes = f"see kubectl describe job {maker.name}; the cluster's controller manager makes the pod"
    if key.kind == "Job":
        return f"Job {key.name} has no pod yet", makes
    cause = f"{key.kind} {key.name} does not have all of its pods yet"
    if key.kind == "RayJob":
        return cause, f"see kubectl describe rayjob {key.name} and whether KubeRay's operator runs"
    return cause, f"{makes}. Without that Job, see kubectl describe jobset {key.name} and whether JobSet's controller runs"


def maker_of_pods(job: Observed) -> Key:
    """What makes the pods: the Job itself, the one Job of a JobSet, or a RayJob's cluster, once it has a name."""
    key = key_of(job)
    if key.kind == "RayJob":
        cluster = job.get("status", {}).get("rayClusterName")
        return Key("RayCluster", key.namespace, cluster) if cluster else key
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
