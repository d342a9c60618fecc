"""The Job of one attempt at one stage, the JobSet of a training on several nodes, or the RayJob of a generation on several."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.defaults import evaluation_of
from subterra_api.job_contract.environment import (
    ATTEMPT_VARIABLE,
    CONCURRENCY_VARIABLE,
    EVALUATED_AGAIN_VARIABLE,
    GATE_VARIABLE,
    GPUS_VARIABLE,
    INPUT_FILE,
    JOB_VARIABLE,
    LOCAL_VLLM_URL,
    MODEL_SWITCH_FILE,
    MODEL_SWITCH_VARIABLE,
    PROGRESS_PORT,
    RANKS_VARIABLE,
    REFERENCES_VARIABLE,
    RUN_VARIABLE,
    SERVING_ARGS_VARIABLE,
    TRAIN_GRACE_SECONDS,
    VLLM_VARIABLE,
    WORKERS_VARIABLE,
)
from subterra_api.job_contract.messages import EvaluatedAgain, ExitCode, Gate
from subterra_api.v1alpha1.compilerun import CompileInputs, ExecutionSettings
from subterra_api.v1alpha1.pod_settings import ResourceRequirements
from subterra_api.v1alpha1.stage_pods import StagePod
from subterra_core.node_pools import default_ranks, gpu_count, node_count, placement, wants_gpu
from subterra_operator.labels import (
    AGENT_LABEL,
    ATTACH_LABEL,
    ATTEMPT_LABEL,
    COMPONENT_LABEL,
    MANAGED_BY,
    MANAGER,
    RUN_LABEL,
    STAGE_LABEL,
)
from subterra_operator.resources import Object, owning_agent
from subterra_operator.settings import Settings
from subterra_operator.specs.extra_pod_settings import extended
from subterra_operator.specs.pod import (
    HOME,
    PodParts,
    container,
    effective_resources,
    env,
    mounts,
    new_object,
    owner_reference,
    pod_spec,
    resources,
    truncate_name,
    volumes,
)
from subterra_operator.specs.run_input import identity_of, input_name
from subterra_operator.specs.stage_env.hub_env import hub_env
from subterra_operator.specs.stage_env.job_set import job_set, job_set_name, node_env
from subterra_operator.specs.stage_env.provider_env import provider_env
from subterra_operator.specs.stage_env.ray_job import Spread, ray_job, ray_job_name, spread
from subterra_operator.specs.stage_env.run_caps import caps_of
from subterra_operator.specs.stage_env.tracing_env import tracing_env
from subterra_operator.specs.vllm_container import Model, models_in_turn, reply_arguments, vllm_container

CANDIDATE = "candidate"
"""The model name under which the evaluation calls its candidate."""

DEADLINES: dict[Stage, int] = {"generate": 6 * 3600, "train": 48 * 3600, "evaluate": 6 * 3600}
"""Seconds that one attempt may take on its node; models that are served one after another have as much each."""
SCHEDULING_DEADLINE = 6 * 3600
"""Seconds that the pod of an attempt may take to start."""
JOB_GRACE_SECONDS = 600
"""How much longer than both deadlines together a Job may exist: it ends what neither kubelet nor operator has ended."""
SHARED_MEMORY: dict[Stage, str] = {"generate": "1Gi", "train": "512Mi", "evaluate": "512Mi"}
GPU_SHARED_MEMORY = "8Gi"
"""With GPUs, whose ranks exchange data through it where they have no direct way. It takes memory only as far as it is filled."""
GPU_CONCURRENCY = 50
"""Concurrent conversations with each model when the evaluation's models run on GPUs: enough to keep these busy."""
PAID_STAGES = ("generate", "evaluate")
"""Only these call providers, so only these get API keys and caps."""
KUEUE_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


@dataclass(frozen=True)
class Attempt:
    """Number of the attempt at a stage; ``attach`` only reads a finished result back."""

    stage: Stage
    number: int
    attach: bool = False

    def job_name(self, run: str) -> str:
        """``<run>-<stage>-<attempt>[-attach]``."""
        return truncate_name(f"{run}-{self.stage}-{self.number}" + ("-attach" if self.attach else ""))


@dataclass(frozen=True)
class _JobPlan:
    """Everything that the Job's parts depend on."""

    run: Mapping[str, Any]
    execution: ExecutionSettings
    attempt: Attempt
    settings: Settings
    models: Sequence[Model]
    ray_jobs: bool = False
    """Whether the cluster has RayJobs."""

    @property
    def run_name(self) -> str:
        return str(self.run["metadata"]["name"])

    @property
    def stage_pod(self) -> StagePod:
        """Pod settings of the stage."""
        pod: StagePod = getattr(self.execution, self.attempt.stage)
        return pod

    @property
    def nodes(self) -> int:
        """Pods that do the work together; a single one reads a result back."""
        return 1 if self.attempt.attach else node_count(self.stage_pod)

    @property
    def spread(self) -> Spread:
        """How the processes of a generation are divided among pods."""
        if self.attempt.attach or self.attempt.stage != "generate":
            return Spread()
        return spread(self.execution, self.settings, ray_jobs=self.ray_jobs)

    @property
    def job_name(self) -> str:
        """Name of the Job, JobSet or RayJob."""
        name = self.attempt.job_name(self.run_name)
        if self.spread.pods:
            return ray_job_name(name)
        return job_set_name(name) if self.nodes > 1 else name

    @property
    def queue(self) -> str | None:
        """The Kueue LocalQueue that admits the Job."""
        return self.stage_pod.queue_name or self.execution.queue_name

    @property
    def deadline(self) -> int:
        """Seconds that the pod may take on its node."""
        default = DEADLINES[self.attempt.stage] * (len(self.models) if self.in_turn else 1)
        return self.stage_pod.active_deadline_seconds or default

    @property
    def in_turn(self) -> bool:
        """Whether the evaluation's models are served one after another."""
        return bool(self.models) and not self.attempt.attach and self.execution.evaluate.models == "Sequential"

    @property
    def working_pod(self) -> StagePod:
        """The same with the resources of the container that does the work."""
        return effective_pod(self.attempt.stage, self.execution, self.settings)

    @property
    def on_gpu(self) -> bool:
        """Whether that container asks for a GPU."""
        return wants_gpu(self.working_pod.resources)

    @property
    def shared_memory(self) -> str:
        """Size of /dev/shm."""
        default = GPU_SHARED_MEMORY if self.on_gpu else SHARED_MEMORY[self.attempt.stage]
        return str(self.stage_pod.shared_memory or default)


def effective_pod(stage: Stage, execution: ExecutionSettings, settings: Settings) -> StagePod:
    """A stage's settings with the resources of the container that does the work: for evaluate each model's, else the main one."""
    pod: StagePod = getattr(execution, stage)
    default: ResourceRequirements = settings.resources.vllm if stage == "evaluate" else getattr(settings.resources, stage)
    return pod.model_copy(update={"resources": effective_resources(pod.resources, default)})


def scheduling_deadline(pod: StagePod) -> int:
    """Seconds from the Job's start within which its main container must have started."""
    return pod.scheduling_deadline_seconds or SCHEDULING_DEADLINE


def stage_job(
    run: Mapping[str, Any],
    execution: ExecutionSettings,
    attempt: Attempt,
    settings: Settings,
    models: Sequence[Model] = (),
    *,
    ray_jobs: bool = False,
) -> Object:
    """The Job, or the JobSet if several nodes train, or the RayJob if ``ray_jobs`` and a pod does not hold the writing processes.

    ``models`` are the candidate and its references, which sidecars of the evaluation serve.
    """
    plan = _JobPlan(run, execution, attempt, settings, models, ray_jobs)
    labels = _labels(plan)
    job = new_object("Job", run["metadata"]["namespace"], plan.job_name, labels)
    if plan.queue:
        job["metadata"]["labels"][KUEUE_QUEUE_LABEL] = plan.queue
    job["metadata"]["ownerReferences"] = [owner_reference(run)]
    # As Kueue's webhook would: where that is down, or fails open, nothing runs without admission either.
    job["spec"] = ({"suspend": True} if plan.queue else {}) | {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "podReplacementPolicy": "Failed",
        "activeDeadlineSeconds": plan.deadline + scheduling_deadline(plan.stage_pod) + JOB_GRACE_SECONDS,
        "podFailurePolicy": {"rules": _failure_rules()},
        "template": extended(
            {"metadata": {"labels": {MANAGED_BY: MANAGER, **labels}}, "spec": _pod(plan)}, plan.stage_pod.pod_template, "main"
        ),
    }
    if plan.spread.pods:
        return ray_job(job, plan.spread)
    return job_set(job, plan.nodes) if plan.nodes > 1 else job


def _labels(plan: _JobPlan) -> dict[str, str]:
    labels = {
        RUN_LABEL: plan.run_name,
        STAGE_LABEL: plan.attempt.stage,
        ATTEMPT_LABEL: str(plan.attempt.number),
        ATTACH_LABEL: str(plan.attempt.attach).lower(),
        COMPONENT_LABEL: "job",
    }
    agent = owning_agent(plan.run)
    return labels | ({AGENT_LABEL: agent} if agent else {})


def _failure_rules() -> list[Object]:
    """One rule per exit code: the Job's condition then names the rule, and the reason survives the pod."""
    codes = [code for code in ExitCode if code is not ExitCode.SUCCEEDED]
    return [
        {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [int(code)]}} for code in codes
    ]


def _pod(plan: _JobPlan) -> Object:
    stage_pod = plan.stage_pod
    sidecars = [] if plan.attempt.attach else _sidecars(plan)
    # With sidecars, the stage's resources are theirs: the models need them, the main container only waits for replies.
    main = _main(plan, StagePod().resources if sidecars else stage_pod.resources)
    if sidecars and plan.on_gpu:
        main["env"] += env({CONCURRENCY_VARIABLE: str(GPU_CONCURRENCY)})
    config = {"name": "input", "configMap": {"name": input_name(plan.run["spec"].get("reevaluates") or plan.run_name)}}
    parts = PodParts([main], sidecars, [*volumes(plan.settings, plan.shared_memory), config])
    # The kubelet counts a pod's deadline from when it accepts the pod; a Job's would count the wait for a node too.
    lifetime: Object = {"restartPolicy": "Never", "activeDeadlineSeconds": plan.deadline}
    if plan.attempt.stage == "train":
        lifetime["terminationGracePeriodSeconds"] = TRAIN_GRACE_SECONDS
    return pod_spec(plan.settings, parts, placement(stage_pod, plan.settings.pools)) | lifetime


def _sidecars(plan: _JobPlan) -> list[Object]:
    """Native sidecars that serve the models: the evaluation starts once they answer, and they end with it."""
    requested, arguments, always = plan.stage_pod.resources, plan.execution.serving_args, {"restartPolicy": "Always"}
    if plan.in_turn:
        return [models_in_turn(plan.settings, plan.models, arguments, requested) | always]
    made = [vllm_container(plan.settings, model, arguments, requested, always) for model in plan.models]
    return [{name: value for name, value in sidecar.items() if name != "readinessProbe"} for sidecar in made]


def _main(plan: _JobPlan, requested: ResourceRequirements) -> Object:
    stage, settings = plan.attempt.stage, plan.settings
    directory, _, _ = INPUT_FILE.rpartition("/")
    parts = {
        "command": ["python", "-m", f"subterra_jobs.{stage}"],
        "args": ["--input", INPUT_FILE, *(["--attach"] if plan.attempt.attach else [])],
        "env": _environment(plan),
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT}],
        "resources": resources(requested, getattr(settings.resources, stage)),
        "volumeMounts": [*mounts(read_only=False), {"name": "input", "mountPath": directory, "readOnly": True}],
    }
    return container("main", settings.stage_image(gpu=stage == "train" and plan.on_gpu), settings, parts)


def _change_of_input(run: Mapping[str, Any]) -> EvaluatedAgain:
    """What a run that evaluates another one's model changes about that one's input."""
    inputs = CompileInputs.model_validate(run["spec"]["inputs"])
    return EvaluatedAgain(run=identity_of(run), evaluation=evaluation_of(inputs.evaluation))


def _environment(plan: _JobPlan) -> list[Object]:
    attempt, execution, references = plan.attempt, plan.execution, plan.models[1:]
    values = {
        **HOME,
        RUN_VARIABLE: plan.run_name,
        JOB_VARIABLE: plan.job_name,
        ATTEMPT_VARIABLE: str(attempt.number),
        VLLM_VARIABLE: LOCAL_VLLM_URL,
    }
    if references:
        values[REFERENCES_VARIABLE] = json.dumps([f"http://127.0.0.1:{model.port}" for model in references])
    if plan.run["spec"].get("reevaluates"):
        values[EVALUATED_AGAIN_VARIABLE] = _change_of_input(plan.run).model_dump_json(by_alias=True)
    if plan.in_turn:
        values[MODEL_SWITCH_VARIABLE] = MODEL_SWITCH_FILE
    environment = env(values)
    if attempt.attach:
        return environment
    environment += tracing_env(plan.settings.tracing)
    if attempt.stage == "evaluate":
        environment += _evaluation_environment(plan)
    inputs = CompileInputs.model_validate(plan.run["spec"]["inputs"])
    if attempt.stage == "train":
        environment += hub_env(inputs, execution, plan.settings)
        environment += _training_environment(plan)
    if workers := plan.spread.workers:
        environment += env({WORKERS_VARIABLE: str(workers)})
    if attempt.stage in PAID_STAGES:
        caps = caps_of(execution, plan.settings, plan.run["metadata"]["namespace"])
        environment += provider_env(attempt.stage, inputs, execution, caps, plan.settings)
    return environment


def _evaluation_environment(plan: _JobPlan) -> list[Object]:
    """The gate's policy, which may end an evaluation early, and what the arguments of vLLM change about replies."""
    execution = plan.execution
    gate = Gate(policy=execution.gate, attempt=plan.run["spec"].get("attempt", 1))
    environment = env({GATE_VARIABLE: gate.model_dump_json(by_alias=True)})
    if arguments := reply_arguments(execution.serving_args):
        environment += env({SERVING_ARGS_VARIABLE: json.dumps(arguments)})
    return environment


def _training_environment(plan: _JobPlan) -> list[Object]:
    """Ranks, GPUs and nodes."""
    pod = plan.working_pod
    counts = {RANKS_VARIABLE: default_ranks(pod) * plan.nodes, GPUS_VARIABLE: gpu_count(pod.resources)}
    environment = env({name: str(count) for name, count in counts.items() if count})
    return environment + (node_env(plan.job_name, plan.nodes) if plan.nodes > 1 else [])
