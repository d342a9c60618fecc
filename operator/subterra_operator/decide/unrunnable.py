"""Why a pod that the settings ask for could not do its work: no pool, no image for GPUs, a training that does not fit, no cap."""

from collections.abc import Iterator

from subterra_api.job_contract.artifacts import Stage
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, ServingSettings
from subterra_api.v1alpha1.compilerun import CompileRunSpec
from subterra_core.node_pools import pool_problem, wants_gpu
from subterra_core.training_fit.fit_refusal import training_problem
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import effective_resources
from subterra_operator.specs.stage_env.run_caps import cap_problems
from subterra_operator.specs.stage_job import effective_pod
from subterra_operator.specs.vllm_container import RefusedArgumentError, check_arguments

BUILD = "build images/jobs-gpu and set images.jobsGpu in the chart's values"


def stage_problems(stage: Stage, spec: CompileRunSpec, settings: Settings, *, job_sets: bool = True) -> Iterator[str]:
    """Problems of a stage's pod, each with the field and the fix. ``job_sets``: whether the cluster has JobSets."""
    yield from cap_problems(stage, spec.inputs, spec.execution, settings)
    pod, field = effective_pod(stage, spec.execution, settings), f"execution.{stage}"
    if problem := pool_problem(field, pod, settings.pools):
        yield problem
        return
    if stage == "train":
        yield from _node_problems(spec.execution.train.nodes, settings, job_sets=job_sets)
        if wants_gpu(pod.resources) and settings.jobs_gpu_image is None:
            yield f"{field}.resources asks for a GPU, but the image {settings.jobs_image} trains on CPUs only; {BUILD}"
        if problem := training_problem(spec.inputs, pod, settings.pools):
            yield problem
    if stage == "evaluate":
        yield from _refused_arguments(spec)
    if stage == "evaluate" and wants_gpu(pod.resources):
        yield from _serving_image(field, settings)


def _node_problems(nodes: int, settings: Settings, *, job_sets: bool) -> Iterator[str]:
    """Why several nodes cannot train together."""
    if nodes == 1:
        return
    asked = f"execution.train.nodes is {nodes}, but"
    if not job_sets:
        found = "this cluster has no JobSets (jobsets.jobset.x-k8s.io), or does not let the operator see them"
        yield f"{asked} {found}; install JobSet (https://jobset.sigs.k8s.io) and this chart's roles, or set nodes to 1"
    if settings.store.access_mode == "ReadWriteOnce":
        fix = "set store.accessMode to ReadWriteMany in the chart's values and make the claim again, or set nodes to 1"
        yield f"{asked} only one node can mount the store's claim {settings.store.claim} (ReadWriteOnce); {fix}"


def _refused_arguments(spec: CompileRunSpec) -> Iterator[str]:
    try:
        check_arguments(spec.execution.serving_args, "spec.execution.servingArgs")
    except RefusedArgumentError as error:
        yield str(error)


def serving_problems(serving: ServingSettings, settings: Settings) -> Iterator[str]:
    """The same of the pods that serve an agent."""
    working = effective_resources(serving.resources, settings.resources.vllm)
    if problem := pool_problem("spec.serving", serving.model_copy(update={"resources": working}), settings.pools):
        yield problem
    elif wants_gpu(working):
        yield from _serving_image("spec.serving", settings)
    if serving.allowed_namespaces is not None and not settings.network.enabled:
        off = "networkPolicies.enabled in the chart's values is false"
        yield f"spec.serving.allowedNamespaces has no effect, since {off}; set it to true, or remove the field"


def promotion_problems(spec: CompiledAgentSpec) -> Iterator[str]:
    """The same of how traffic moves."""
    if spec.promotion.canary is None:
        return
    if spec.promotion.rollout == "Recreate":
        yield "spec.promotion.canary needs both versions at once; remove it, or set spec.promotion.rollout to BlueGreen"
    if spec.serving.inference_pool is not None:
        why = "since a pool has the pods of one version, and requests through it would be no part of the canary"
        yield f"spec.promotion.canary and spec.serving.inferencePool exclude each other, {why}; remove one of them"


def _serving_image(field: str, settings: Settings) -> Iterator[str]:
    if settings.serving_image is None and settings.jobs_gpu_image is None:
        image = f"the image {settings.jobs_image} has vLLM for CPUs only"
        yield f"{field}.resources asks for a GPU, but {image}; set images.vllm in the chart's values to an image of vLLM for GPUs"
