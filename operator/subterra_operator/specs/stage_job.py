"""The Job of one attempt at one stage."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.environment import (
    CONCURRENCY_VARIABLE,
    GATE_VARIABLE,
    INPUT_FILE,
    PROGRESS_PORT,
    REFERENCES_VARIABLE,
    VLLM_PORT,
    VLLM_VARIABLE,
)
from subterra_api.job_contract.messages import ExitCode, Gate
from subterra_api.v1alpha1.compilerun import CompileInputs, ExecutionSettings, StagePod
from subterra_operator.labels import (
    AGENT_LABEL,
    ATTACH,
    ATTEMPT,
    COMPONENT_LABEL,
    MANAGED_BY,
    MANAGER,
    RUN_LABEL,
    STAGE_LABEL,
    labels,
)
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.pod import HOME, base, container, env, fitted, mounts, owner, pod_spec, resources, volumes
from subterra_operator.specs.provider_env import provider_env
from subterra_operator.specs.run_input import input_name
from subterra_operator.specs.vllm_container import Model, vllm_container

CANDIDATE = "candidate"
"""The name under which the evaluation asks its sidecar for the model."""

DEADLINES: dict[Stage, int] = {"generate": 6 * 3600, "train": 48 * 3600, "evaluate": 6 * 3600}
"""Seconds that one attempt may take."""
SHARED_MEMORY: dict[Stage, str] = {"generate": "1Gi", "train": "512Mi", "evaluate": "512Mi"}
ON_GPU = 50
"""Conversations at once with each model that the evaluation plays on GPUs: enough to keep them busy."""
PAID_STAGES = ("generate", "evaluate")
"""Only these reach a provider, and only they see its key and the caps."""


@dataclass(frozen=True)
class Attempt:
    """Which try of which stage; ``attach`` only reads a finished result back."""

    stage: Stage
    number: int
    attach: bool = False

    def job_name(self, run: str) -> str:
        """``<run>-<stage>-<attempt>[-attach]``."""
        return fitted(f"{run}-{self.stage}-{self.number}" + ("-attach" if self.attach else ""))


def stage_job(
    run: Mapping[str, Any], execution: ExecutionSettings, attempt: Attempt, settings: Settings, models: Sequence[Model] = ()
) -> Object:
    """The Job; ``models`` are the candidate and its references, each of which a sidecar of the evaluation serves."""
    name, pod = run["metadata"]["name"], getattr(execution, attempt.stage)
    marks = _labels(run, attempt)
    job = base("Job", run["metadata"]["namespace"], attempt.job_name(name), marks)
    if execution.queue_name:
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = execution.queue_name
    job["metadata"]["ownerReferences"] = [owner(run)]
    template = {"metadata": {"labels": {MANAGED_BY: MANAGER, **marks}}, "spec": _pod(run, execution, attempt, settings, models)}
    job["spec"] = {
        "backoffLimit": 0, "completions": 1, "parallelism": 1, "podReplacementPolicy": "Failed",
        "activeDeadlineSeconds": pod.active_deadline_seconds or DEADLINES[attempt.stage],
        "podFailurePolicy": {"rules": _failure_rules()}, "template": template,
    }  # fmt: skip
    return job


def _labels(run: Mapping[str, Any], attempt: Attempt) -> dict[str, str]:
    marks = {
        RUN_LABEL: run["metadata"]["name"], STAGE_LABEL: attempt.stage, ATTEMPT: str(attempt.number),
        ATTACH: str(attempt.attach).lower(), COMPONENT_LABEL: "job",
    }  # fmt: skip
    agent = labels(run).get(AGENT_LABEL)
    return marks | ({AGENT_LABEL: agent} if agent else {})


def _failure_rules() -> list[Object]:
    """One rule per exit code: the Job's condition then names the rule, and the reason survives the pod."""
    codes = [code for code in ExitCode if code is not ExitCode.SUCCEEDED]
    return [
        {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [int(code)]}} for code in codes
    ]


def _pod(
    run: Mapping[str, Any], execution: ExecutionSettings, attempt: Attempt, settings: Settings, models: Sequence[Model]
) -> Object:
    pod: StagePod = getattr(execution, attempt.stage)
    sidecars = [] if attempt.attach else [_sidecar(model, pod, settings) for model in models]
    main_pod = pod.model_copy(update={"resources": StagePod().resources}) if sidecars else pod
    main = _main(run, execution, attempt, settings, main_pod, models)
    if any(name.endswith("/gpu") for sidecar in sidecars for amounts in sidecar["resources"].values() for name in amounts):
        main["env"] += env({CONCURRENCY_VARIABLE: str(ON_GPU)})
    containers = [main]
    config = {"name": "input", "configMap": {"name": input_name(run["metadata"]["name"])}}
    everything = [*volumes(settings, SHARED_MEMORY[attempt.stage]), config]
    spec = pod_spec(settings, containers, sidecars, everything, pod.node_selector, pod.tolerations)
    return spec | {"restartPolicy": "Never"}


def _sidecar(model: Model, pod: StagePod, settings: Settings) -> Object:
    """A native sidecar: the evaluation starts when the model answers, and the sidecar ends with it."""
    container = vllm_container(settings, model, wanted=pod.resources, extra={"restartPolicy": "Always"})
    container.pop("readinessProbe")
    return container


def _main(
    run: Mapping[str, Any], execution: ExecutionSettings, attempt: Attempt, settings: Settings, pod: StagePod,
    models: Sequence[Model],
) -> Object:  # fmt: skip
    directory, _, _ = INPUT_FILE.rpartition("/")
    environment = env({
        **HOME, "SUBTERRA_RUN": run["metadata"]["name"], "SUBTERRA_JOB": attempt.job_name(run["metadata"]["name"]),
        "SUBTERRA_ATTEMPT": str(attempt.number), VLLM_VARIABLE: f"http://127.0.0.1:{VLLM_PORT}",
        **({REFERENCES_VARIABLE: json.dumps([f"http://127.0.0.1:{model.port}" for model in models[1:]])} if models[1:] else {}),
    })  # fmt: skip
    if attempt.stage == "evaluate" and not attempt.attach:
        gate = Gate(policy=execution.gate, attempt=run["spec"].get("attempt", 1))
        environment += env({GATE_VARIABLE: gate.model_dump_json(by_alias=True)})
    if attempt.stage in PAID_STAGES and not attempt.attach:
        inputs = CompileInputs.model_validate(run["spec"]["inputs"])
        environment += provider_env(attempt.stage, inputs, execution, settings)
    return container("main", settings.jobs_image, settings, {
        "command": ["python", "-m", f"subterra_jobs.{attempt.stage}"],
        "args": ["--input", INPUT_FILE, *(["--attach"] if attempt.attach else [])],
        "env": environment,
        "ports": [{"name": "progress", "containerPort": PROGRESS_PORT}],
        "resources": resources(pod.resources, getattr(settings.resources, attempt.stage)),
        "volumeMounts": [*mounts(read_only=False), {"name": "input", "mountPath": directory, "readOnly": True}],
    })  # fmt: skip
