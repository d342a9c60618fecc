"""Reads what Kueue says about a Job that waits in a queue. On demand, as Events are: nobody else's Workloads are watched."""

from collections.abc import Sequence
from dataclasses import replace

from subterra_operator.decide.trouble.trouble import one_line
from subterra_operator.kube.api_client import KubernetesApi, NotFoundError
from subterra_operator.resources import KINDS, Key, Object
from subterra_operator.snapshot import QueuedWorkload

VERSIONS = ("v1beta2", "v1beta1")
"""Of Kueue's API, the newest first: 0.17 has both, older releases the second only."""
JOB_UID_LABEL = "kueue.x-k8s.io/job-uid"


async def read_workload(api: KubernetesApi, key: Key) -> QueuedWorkload:
    """What Kueue says about the Job whose UID is the key's name. Raises ApiError."""
    for version in VERSIONS:
        try:
            found, _ = await api.list(replace(KINDS["Workload"], version=version), key.namespace, f"{JOB_UID_LABEL}={key.name}")
        except NotFoundError:
            continue
        return queued_workload(found)
    return QueuedWorkload(installed=False)


def queued_workload(found: Sequence[Object]) -> QueuedWorkload:
    """The same from the Workloads of one Job."""
    if not found:
        return QueuedWorkload()
    workload = max(found, key=lambda each: str(each["metadata"]["creationTimestamp"]))
    active, status = workload["spec"].get("active", True), workload.get("status") or {}
    return QueuedWorkload(
        True, workload["metadata"]["name"], workload["apiVersion"], active, _why_not_admitted(status, active=active)
    )


def _why_not_admitted(status: Object, *, active: bool) -> str:
    """Why a Workload is not admitted: an eviction, the quota that it waits for, admission checks that are not ready."""
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    evicted, reserved = conditions.get("Evicted", {}), conditions.get("QuotaReserved", {})
    words = list[str]()
    if evicted.get("status") == "True" and not _is_over(evicted, conditions.get("Requeued", {}), active=active):
        words.append(f"{evicted.get('reason')}: {evicted.get('message')}")
    if reserved.get("status") == "False" and reserved.get("message") != evicted.get("message"):
        words.append(str(reserved.get("message")))
    if reserved.get("status") == "True":
        checks = sorted(status.get("admissionChecks") or (), key=lambda check: str(check["name"]))
        words += [f"{check['name']}: {check.get('message') or check['state']}" for check in checks if check["state"] != "Ready"]
    return one_line("; ".join(words))


def _is_over(evicted: Object, requeued: Object, *, active: bool) -> bool:
    """Whether the cause of an eviction has passed, although Kueue leaves the condition until there is quota again.

    Of most causes it then says Requeued with another reason; a Workload that was stopped before it had quota is just active again.
    """
    again = requeued.get("status") == "True" and requeued.get("reason") != evicted.get("reason")
    return again or (active and str(evicted.get("reason")).startswith("Deactivated"))
