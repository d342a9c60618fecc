"""Placement and resources of the stages' pods. None of it is part of a run's digest."""

from typing import Annotated, Literal

from pydantic import Field

from subterra_api.v1alpha1.base import ApiModel, Labels
from subterra_api.v1alpha1.pod_settings import PoolName, Quantity, QueueName, ResourceRequirements, Toleration
from subterra_api.v1alpha1.pod_template import PodTemplate


class StagePod(ApiModel):
    """Placement and resources of a stage."""

    resources: ResourceRequirements = ResourceRequirements()
    """Requests and limits. Where there are none at all, those of the operator's settings."""
    node_selector: Labels = {}
    """Labels that a node must have, as in a PodSpec."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=20)] = ()
    """Tolerations of the pods, as in a PodSpec."""
    active_deadline_seconds: Annotated[int, Field(ge=60, le=1209600)] | None = None
    """Seconds, counted from when a node accepts the pod, after which the stage is stopped and the run fails with DeadlineExceeded.
    Time in a queue or without a node does not count. Default: 6 hours, for train 48 hours."""
    scheduling_deadline_seconds: Annotated[int, Field(ge=60, le=1209600)] | None = None
    """Seconds, counted from the Job's start, within which the stage's main container must have started; else the Job is stopped and
    the run fails with SchedulingDeadlineExceeded and the cause. Time in a queue does not count. Default: 6 hours."""
    ranks: Annotated[int, Field(ge=1, le=64)] | None = None
    """Number of training processes: one per GPU, or on CPU one per core assigned to the pod. Default: the number of GPUs that
    `resources` asks for, without GPUs 1."""
    pool: PoolName | None = None
    """Node pool from the operator's settings (`pools` of the chart): its labels and tolerations are added to the pod's own."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm, through which GPUs of one pod may exchange data. Default: 512Mi, for generate 1Gi, with GPUs 8Gi."""
    queue_name: QueueName | None = None
    """Kueue LocalQueue for the stage's jobs, in place of `execution.queueName`."""
    pod_template: PodTemplate = PodTemplate()
    """Further settings of the pods: labels, ServiceAccount, priority, affinity, variables."""


class GenerationPod(StagePod):
    """Placement and resources of the generation. All but `workers` is that of each pod."""

    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Number of processes that write conversations, each on one CPU. A pod holds as many as its CPU limit has CPUs, else
    its request; more are spread over pods by KubeRay, where the cluster has it and several nodes can mount the store. Default: 1,
    for the scripted teacher one per CPU of the pod."""


class TrainingPod(StagePod):
    """Placement and resources of the training. All but `nodes` is that of each pod."""

    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of pods that train one model together, each with `resources` and `ranks`. Above 1 it takes JobSet in the cluster and a
    store that several nodes can mount. Default: 1."""


class EvaluationPod(StagePod):
    """Placement and resources of the evaluation, whose `resources` are those of each vLLM server."""

    models: Literal["Parallel", "Sequential"] = "Parallel"
    """Parallel: each compared model has a vLLM server, and GPUs, of its own in the pod. Sequential, for pools with one GPU: one
    server loads them one after another, with the same scores and verdict. Default: Parallel."""
