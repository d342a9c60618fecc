"""A stage on several nodes: a JobSet with one Indexed Job, and how its pods find each other.

JobSet makes the headless Service. It restarts nothing: when a pod dies the JobSet fails, and the operator starts all pods again as
its next attempt, by the exit code and with its own count.
"""

from collections.abc import Mapping
from typing import Any

from subterra_api.job_contract.environment import (
    NODE_RANK_VARIABLE,
    NODES_VARIABLE,
    RENDEZVOUS_PORT,
    RENDEZVOUS_VARIABLE,
)
from subterra_operator.labels import NODES_LABEL
from subterra_operator.resources import Object
from subterra_operator.specs.pod import env, new_object, truncate_name

REPLICATED_JOB = "node"
JOB_SET_NAME_LIMIT = 63 - len(f"-{REPLICATED_JOB}-0-63-abcde")
"""Names of its pods have the JobSet's name, the Job's index, their own and five random letters, and must be DNS labels."""
_INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
_KUEUE = "kueue.x-k8s.io/"


def job_set_name(job_name: str) -> str:
    """The JobSet's name in place of a Job's; it begins with a letter, because a Service has it too."""
    return truncate_name(job_name if job_name[0].isalpha() else f"n{job_name}", JOB_SET_NAME_LIMIT)


def only_job_of(job_set_name: str) -> str:
    """Name of the one Job that the JobSet controller makes."""
    return f"{job_set_name}-{REPLICATED_JOB}-0"


def node_env(job_set_name: str, nodes: int) -> list[Object]:
    """What each pod is told of the others. The hostname is the one that JobSet gives to the first pod."""
    address = f"{only_job_of(job_set_name)}-0.{job_set_name}:{RENDEZVOUS_PORT}"
    index: Object = {"name": NODE_RANK_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": _INDEX}}}
    return [*env({NODES_VARIABLE: str(nodes), RENDEZVOUS_VARIABLE: address}), index]


def job_set(job: Mapping[str, Any], nodes: int) -> Object:
    """The JobSet in place of a stage's Job. What suspends it and what queues it is on the JobSet alone."""
    metadata = job["metadata"]
    made = new_object("JobSet", metadata["namespace"], metadata["name"], metadata["labels"] | {NODES_LABEL: str(nodes)})
    made["metadata"]["ownerReferences"] = metadata["ownerReferences"]
    labels = {name: value for name, value in made["metadata"]["labels"].items() if not name.startswith(_KUEUE)}
    template = job["spec"]["template"]
    pods = {**template, "metadata": {**template["metadata"], "labels": template["metadata"]["labels"] | {NODES_LABEL: str(nodes)}}}
    spec = {name: value for name, value in job["spec"].items() if name != "suspend"}
    spec |= {"completions": nodes, "parallelism": nodes, "completionMode": "Indexed", "template": pods}
    made["spec"] = {name: value for name, value in job["spec"].items() if name == "suspend"} | {
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "failurePolicy": {"maxRestarts": 0},
        "successPolicy": {"operator": "All"},
        "replicatedJobs": [{"name": REPLICATED_JOB, "replicas": 1, "template": {"metadata": {"labels": labels}, "spec": spec}}],
    }
    return made
