"""A generation over several pods: a RayJob, which KubeRay runs.

Its submitter is the stage's own pod, the driver, which joins the cluster as a node without processors. So exit code, message,
progress and SIGTERM are those of a Job's pod. KubeRay restarts nothing: attempts are the operator's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from subterra_api.job_contract.environment import RAY_ENVIRONMENT, RAY_GCS_PORT
from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_api.v1alpha1.stage_pods import GenerationPod
from subterra_core.node_pools import worker_pods, workers_per_pod
from subterra_operator.labels import COMPONENT_LABEL, NODES_LABEL, RAY_COMPONENT, RAY_LABEL, RUN_UID_LABEL
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import HOME, effective_resources, env, new_object, truncate_name

RAY_JOB_NAME_LIMIT = 47
"""KubeRay's own, which leaves room for the names of what it makes."""
RAY_VERSION = "2.60.0"
"""Of the jobs image. By it KubeRay chooses the probes: from 2.53 on they need no program in the image."""
DASHBOARD_PORT = 8265
KUBERAY_LABELS = {"app.kubernetes.io/component": "kuberay-operator"}
"""Of KubeRay's own pods, which ask the dashboard how the job is."""
FIRST_DRIVER = "01000000"
"""Ray's id of the first driver of a cluster. KubeRay asks for the job by it, so that nothing has to be submitted."""
KEEP_HEAD = "ray.io/disable-provisioned-head-restart"
HEAD_RESOURCES = {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}
OBJECT_STORE_BYTES = 80 * 1024 * 1024
LAST_CALLS_SECONDS = 25
"""How long a worker's pod stays for calls in flight, when all pods are told to end."""
_WAIT_FOR_WORKERS = (
    f"for second in $(seq {LAST_CALLS_SECONDS}); do "
    r"grep -qs 'ray::\(Brokered\|LLM\)Worker' /proc/[0-9]*/cmdline || exit 0; sleep 1; done"
)
NO_RAY_JOBS = "this cluster has no RayJobs (rayjobs.ray.io), or does not let the operator see them"


@dataclass(frozen=True)
class Spread:
    """How the writing processes are divided among pods."""

    pods: int = 0
    """Pods for them alone; 0 for Ray in the stage's own pod."""
    workers: int | None = None
    """Processes in all; `None` for the stage's default."""
    per_pod: int = 1
    note: str = ""
    """Why there are fewer than were asked for, and what to do."""


def spread(execution: ExecutionSettings, settings: Settings, *, ray_jobs: bool) -> Spread:
    """What the cluster allows of ``execution.generate.workers``. ``ray_jobs``: whether it has RayJobs."""
    chosen = effective_resources(execution.generate.resources, settings.resources.generate)
    pod: GenerationPod = execution.generate.model_copy(update={"resources": chosen})
    held, pods = workers_per_pod(pod) or 1, worker_pods(pod)
    if not pods:
        return Spread(workers=pod.workers)
    if ray_jobs and settings.store.access_mode == "ReadWriteMany":
        return Spread(pods, pod.workers, held)
    cause, fix = NO_RAY_JOBS, "install KubeRay 1.6 or newer (https://github.com/ray-project/kuberay) and this chart's roles"
    if ray_jobs:
        cause = f"only one node can mount the store's claim {settings.store.claim} (ReadWriteOnce)"
        fix = "set store.accessMode to ReadWriteMany in the chart's values and make the claim again"
    text = f"{held} of {pod.workers} workers write, in one pod, because {cause}; for more {fix}, or raise the CPUs of the pod"
    return Spread(workers=held, note=text)


def ray_job_name(job_name: str) -> str:
    """The RayJob's name in place of a Job's; it begins with a letter, because Services have it too."""
    return truncate_name(job_name if job_name[0].isalpha() else f"n{job_name}", RAY_JOB_NAME_LIMIT)


def ray_job(job: Mapping[str, Any], planned: Spread) -> Object:
    """The RayJob in place of the stage's Job. What suspends it and what queues it is on the RayJob alone."""
    metadata, spec, count = job["metadata"], job["spec"], str(planned.pods + 2)
    made = new_object("RayJob", metadata["namespace"], metadata["name"], metadata["labels"] | {NODES_LABEL: count})
    made["metadata"] |= {"ownerReferences": metadata["ownerReferences"], "annotations": {KEEP_HEAD: "true"}}
    [owner] = metadata["ownerReferences"]
    labels = {NODES_LABEL: count, RUN_UID_LABEL: owner["uid"]}
    group = {"groupName": "worker", "replicas": planned.pods, "minReplicas": planned.pods, "maxReplicas": planned.pods}
    made["spec"] = {name: value for name, value in spec.items() if name == "suspend"} | {
        "submissionMode": "K8sJobMode",
        "jobId": FIRST_DRIVER,
        "entrypoint": " ".join(_main(spec["template"])["command"]),
        "backoffLimit": 0,
        "submitterConfig": {"backoffLimit": 0},
        "shutdownAfterJobFinishes": True,
        "activeDeadlineSeconds": spec["activeDeadlineSeconds"],
        "submitterPodTemplate": _pod(spec["template"], labels | {RAY_LABEL: "driver"}),
        "rayClusterSpec": {
            "rayVersion": RAY_VERSION,
            "authOptions": {"mode": "token"},
            "headGroupSpec": {"rayStartParams": _parameters(0), "template": _head(spec["template"], labels)},
            "workerGroupSpecs": [
                group | {"rayStartParams": _parameters(planned.per_pod), "template": _worker(spec["template"], labels)}
            ],
        },
    }
    return made


def _parameters(cpus: int) -> dict[str, str]:
    return {"num-cpus": str(cpus), "num-gpus": "0", "object-store-memory": str(OBJECT_STORE_BYTES)}


def _main(template: Mapping[str, Any]) -> Object:
    [main] = template["spec"]["containers"]
    return dict(main)


def _pod(template: Mapping[str, Any], labels: Mapping[str, str]) -> Object:
    metadata = template["metadata"]
    return {**template, "metadata": {**metadata, "labels": {**metadata["labels"], **labels}}}


def _ray_pod(template: Mapping[str, Any], labels: Mapping[str, str], role: str, main: Object) -> Object:
    """The stage's pod with Ray in place of the stage. It ends with the cluster, whose deadline is the RayJob's."""
    pod = _pod(template, {**labels, RAY_LABEL: role, COMPONENT_LABEL: RAY_COMPONENT})
    spec = {name: value for name, value in pod["spec"].items() if name != "activeDeadlineSeconds"}
    container = {name: value for name, value in main.items() if name not in ("command", "args")}
    return {**pod, "spec": {**spec, "containers": [container]}}


def _head(template: Mapping[str, Any], labels: Mapping[str, str]) -> Object:
    """The pod that keeps the books of the cluster and calls nobody, so it gets no keys."""
    ports = [{"name": "gcs-server", "containerPort": RAY_GCS_PORT}, {"name": "dashboard", "containerPort": DASHBOARD_PORT}]
    parts = {"env": env(dict(HOME) | RAY_ENVIRONMENT), "resources": HEAD_RESOURCES, "ports": ports}
    return _ray_pod(template, labels, "head", _main(template) | parts)


def _worker(template: Mapping[str, Any], labels: Mapping[str, str]) -> Object:
    """A pod whose processes write, with the stage's resources, store and keys."""
    main = {name: value for name, value in _main(template).items() if name != "ports"}
    stop = {"preStop": {"exec": {"command": ["/bin/sh", "-c", _WAIT_FOR_WORKERS]}}}
    return _ray_pod(template, labels, "worker", main | {"env": [*main["env"], *env(RAY_ENVIRONMENT)], "lifecycle": stop})
