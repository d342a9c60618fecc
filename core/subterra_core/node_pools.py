"""Node pools that an administrator names: where their pods run, which GPU they have, what it costs. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, StringConstraints, TypeAdapter

from subterra_api.v1alpha1.base import ApiModel, Labels, Money
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, ServingSettings
from subterra_api.v1alpha1.pod_settings import PoolName, ResourceRequirements, Toleration, amount
from subterra_api.v1alpha1.stage_pods import GenerationPod, StagePod, TrainingPod
from subterra_core.pricing import format_usd

GPU_RESOURCE = "nvidia.com/gpu"
_ANY_GPU = re.compile(r"/(gpu(\.shared)?|mig-.+)$")


class NodePool(ApiModel):
    """A group of nodes. A pod that names it gets its labels and tolerations in addition to its own."""

    node_selector: Labels = {}
    """Labels that its nodes have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=20)] = ()
    """Tolerations that its nodes' taints need."""
    gpu_type: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = None
    """Its GPU: a name in `gpu_cards.yaml`, such as H200-141, or a value of the node label nvidia.com/gpu.product. With a name that
    is not known nothing is estimated."""
    gpus_per_node: Annotated[int, Field(ge=1, le=64)] | None = None
    """GPUs of each node, which is the most that a pod can have."""
    usd_per_hour: Annotated[Money | None, Field(alias="usdPerHour")] = None
    """Price per hour in US dollars: of a GPU, or of a whole pod without GPUs."""


Pools = Mapping[str, NodePool]
POOLS: TypeAdapter[dict[str, NodePool]] = TypeAdapter(dict[PoolName, NodePool])
"""Parses `pools` of the chart's values."""


@dataclass(frozen=True)
class Placement:
    """Where a pod may run."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()


def placement(settings: StagePod | ServingSettings, pools: Pools) -> Placement:
    """The pool's labels and tolerations with the pod's own, which win; a pool that does not exist adds nothing."""
    pool = pool_of(settings, pools) or NodePool()
    added = tuple(each for each in pool.tolerations if each not in settings.tolerations)
    return Placement({**pool.node_selector, **settings.node_selector}, (*added, *settings.tolerations))


def pool_of(settings: StagePod | ServingSettings, pools: Pools) -> NodePool | None:
    """The pool that the pod names; `None` if it names none, or one that does not exist."""
    return pools.get(settings.pool) if settings.pool else None


def pool_problem(field_path: str, settings: StagePod | ServingSettings, pools: Pools) -> str | None:
    """Why the pod cannot run in the pool that it names, or `None`. ``field_path`` is that of its settings."""
    if settings.pool is None:
        return None
    pool = pools.get(settings.pool)
    if pool is None:
        fix = f"use one of {', '.join(sorted(pools))}, or" if pools else "none is configured;"
        return f"{field_path}.pool: there is no pool {settings.pool}; {fix} add it to pools in the chart's values"
    asked, most = gpu_count(settings.resources), pool.gpus_per_node
    if most is not None and asked > most:
        there = f"a node of pool {settings.pool} has {most}"
        return f"{field_path}.resources asks for {asked} {GPU_RESOURCE}, but {there}; ask for no more"
    return None


def gpu_count(resources: ResourceRequirements) -> int:
    """How many GPUs a container asks for; Kubernetes takes a limit for a request too."""
    return int(amount((resources.requests | resources.limits).get(GPU_RESOURCE, 0)))


def default_ranks(pod: StagePod) -> int:
    """Ranks of a training in each pod: what the pod says, else one for each GPU, else one."""
    return pod.ranks or max(1, gpu_count(pod.resources))


def node_count(pod: StagePod) -> int:
    """Pods that work on the stage together."""
    return pod.nodes if isinstance(pod, TrainingPod) else 1


def workers_per_pod(pod: StagePod) -> int | None:
    """Processes that a pod of the generation holds: one for each CPU of its limit, else of its request; `None` without both."""
    cpus = (pod.resources.requests | pod.resources.limits).get("cpu")
    return None if cpus is None else max(1, int(amount(cpus)))


def worker_pods(pod: GenerationPod) -> int:
    """Pods over which the writing processes have to be spread; 0 if one pod holds them next to what hands out their work."""
    held = workers_per_pod(pod)
    return 0 if held is None or (pod.workers or 0) <= held else -(-(pod.workers or 0) // held)


def wants_gpu(resources: ResourceRequirements) -> bool:
    """Whether a container asks for a GPU of any vendor, or for a share or an instance of one."""
    asked = (resources.requests | resources.limits).items()
    return any(_ANY_GPU.search(name) and amount(count) > 0 for name, count in asked)


def serving_usd_per_hour(spec: CompiledAgentSpec, pools: Pools) -> str:
    """Price of a replica per hour: the agent's own, else its pool's for all GPUs of a replica, else the default."""
    pool = pool_of(spec.serving, pools)
    if pool is None or pool.usd_per_hour is None or "usd_per_hour" in spec.cost.model_fields_set:
        return spec.cost.usd_per_hour
    return format_usd(Decimal(pool.usd_per_hour) * max(1, gpu_count(spec.serving.resources)))
