"""The objects of a thousand agents on the API server, built by the operator's own builders."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from subterra_api.digest import procedure_digest
from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.defaults import resolve
from subterra_api.job_contract.messages import RunIdentity
from subterra_api.v1alpha1 import API_VERSION
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import CompileRunSpec, CompileRunStatus, ExecutionSettings, StageStatus
from subterra_api.v1alpha1.conditions import timestamp
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_operator.decide.agent.candidate import target_of
from subterra_operator.labels import labels_of
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.compile_run import compile_run
from subterra_operator.specs.deployment import ServingTarget, deployment, version_of
from subterra_operator.specs.run_input import artifact_keys_of, input_config_map
from subterra_operator.specs.stage_job import CANDIDATE, Attempt, stage_job
from subterra_operator.specs.traffic.service import service
from subterra_operator.specs.vllm_container import model_of
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, ended, result, scores

NAMESPACES = 10
POD_ADDRESS = "127.87.0.1"
"""Address of all pods of the benchmark, on this machine's loopback interface."""
SETTINGS = Settings()
STAGES: tuple[Stage, ...] = ("generate", "train", "evaluate")


@dataclass(frozen=True)
class Member:
    """One agent of the fleet: served with a finished run, or with its first run in progress."""

    number: int
    in_flight: bool
    now: datetime

    @property
    def name(self) -> str:
        return f"agent-{self.number:04d}"

    @property
    def namespace(self) -> str:
        return f"fleet-{self.number % NAMESPACES}"

    @cached_property
    def procedure_spec(self) -> Object:
        """The agent's own procedure: agents do not share one."""
        return {**TRAVEL["spec"], "systemPrompt": f"You are travel booking assistant number {self.number}."}

    @property
    def digest(self) -> str:
        return procedure_digest(ProcedureSpec.model_validate(self.procedure_spec))

    def procedure(self) -> Object:
        return _resource("Procedure", self.name, self.namespace, self.procedure_spec)

    def agent(self) -> Object:
        spec = {"compile": {"procedureRef": {"name": self.name}, "template": {"baseModel": {"uri": "scratch"}}}}
        return _resource("CompiledAgent", self.name, self.namespace, spec)

    def run(self, agent: Object) -> Object:
        spec = CompiledAgentSpec.model_validate(agent["spec"])
        assert spec.compile
        return compile_run(agent, spec, spec.compile, self.digest)

    def input(self, run: Object) -> Object:
        metadata, procedure = run["metadata"], ProcedureSpec.model_validate(self.procedure_spec)
        identity = RunIdentity(name=metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])
        inputs = CompileRunSpec.model_validate(run["spec"]).inputs
        return input_config_map(run, resolve(inputs, procedure, self.digest, identity, store="file:///store"))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that have a Job."""
        return STAGES[:2] if self.in_flight else STAGES

    def finished(self, stage: Stage) -> bool:
        return not self.in_flight or stage == "generate"

    def job(self, run: Object, stage: Stage) -> Object:
        inputs = CompileRunSpec.model_validate(run["spec"]).inputs
        models = (model_of(inputs, "models/1", CANDIDATE),) if stage == "evaluate" else ()
        return stage_job(run, ExecutionSettings(), Attempt(stage, 1), SETTINGS, models)

    def job_status(self, stage: Stage) -> Object:
        at = timestamp(self.now)
        if not self.finished(stage):
            return {"active": 1, "ready": 1, "startTime": at, "uncountedTerminatedPods": {}}
        done = [{"type": kind, "status": "True", "lastTransitionTime": at} for kind in ("SuccessCriteriaMet", "Complete")]
        return {"succeeded": 1, "startTime": at, "completionTime": at, "conditions": done, "uncountedTerminatedPods": {}}

    def job_pod(self, job: Object) -> Object:
        extra = {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
        return _pod(job, job["metadata"]["name"] + "-abcde", extra)

    def job_pod_status(self, stage: Stage, frozen: Object) -> Object:
        if not self.finished(stage):
            return _pod_status("Running", "main", {"running": {"startedAt": timestamp(self.now)}})
        keys = artifact_keys_of(frozen)
        key = {"generate": keys.dataset, "train": keys.model, "evaluate": keys.report}[stage]
        message = result(stage, key, scores() if stage == "evaluate" else None)
        state = {"terminated": {**ended(0, message), "startedAt": timestamp(self.now), "finishedAt": timestamp(self.now)}}
        return _pod_status("Succeeded", "main", state)

    def run_status(self, run: Object, frozen: Object) -> Object:
        """The recorded status; conditions and verdict are left to the operator."""
        status = CompileRunStatus(stages=tuple(self._stage(run, stage) for stage in self.stages))
        if self.in_flight:
            return status.dump()
        results = [
            json.loads(self.job_pod_status(stage, frozen)["containerStatuses"][0]["state"]["terminated"]["message"])
            for stage in STAGES
        ]
        artifacts = {}
        for kind, item in zip(("dataset", "model", "report"), results, strict=True):
            artifacts |= {kind: item["digest"], f"{kind}Path": item["path"]}
        return {**status.dump(), "artifacts": artifacts, "scores": scores().dump()}

    def _stage(self, run: Object, stage: Stage) -> StageStatus:
        job = Attempt(stage, 1).job_name(run["metadata"]["name"])
        if not self.finished(stage):
            return StageStatus(name=stage, state="Running", attempt=1, job_name=job, started_at=timestamp(self.now))
        at = timestamp(self.now)
        return StageStatus(
            name=stage,
            state="Succeeded",
            attempt=1,
            percent=100,
            job_name=job,
            started_at=at,
            finished_at=at,
            usd="0",
            message=f"{stage} is done",
        )

    def _target(self, run: Object) -> ServingTarget:
        target = target_of(run, CompileRunStatus.model_validate(run["status"]))
        assert target
        return target

    def deployment(self, agent: Object, run: Object) -> Object:
        spec = CompiledAgentSpec.model_validate(agent["spec"])
        return deployment(agent, spec, self._target(run), SETTINGS, self.now)

    def serving_pod(self, deployed: Object) -> Object:
        return _pod(deployed, deployed["metadata"]["name"] + "-0123456789-abcde", {"pod-template-hash": "0123456789"})

    def service(self, agent: Object, run: Object) -> Object:
        spec = CompiledAgentSpec.model_validate(agent["spec"])
        return service(agent, spec.serving.port, version_of(self._target(run), spec.serving), self.now)


READY: Object = {"observedGeneration": 1, **dict.fromkeys(("replicas", "readyReplicas", "availableReplicas", "updatedReplicas"), 1)}
SERVING: dict[str, Any] = {"running": {"startedAt": None}}


def serving_status() -> Object:
    """Status of a serving pod."""
    return _pod_status("Running", "vllm", SERVING)


def _resource(kind: str, name: str, namespace: str, spec: Object) -> Object:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def _pod(parent: Object, name: str, extra: dict[str, str]) -> Object:
    template = parent["spec"]["template"]
    owner = {
        "apiVersion": parent["apiVersion"],
        "kind": parent["kind"],
        "name": parent["metadata"]["name"],
        "uid": parent["metadata"]["uid"],
        "controller": True,
    }
    metadata = {
        "name": name,
        "namespace": parent["metadata"]["namespace"],
        "labels": {**labels_of(template), **extra},
        "ownerReferences": [owner],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def _pod_status(phase: str, container: str, state: Object) -> Object:
    ready = phase == "Running"
    container_status = {"name": container, "image": "none", "imageID": "none", "restartCount": 0, "ready": ready, "state": state}
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    conditions = [{"type": kind, "status": "True" if ready else "False"} for kind in kinds]
    return {
        "phase": phase,
        "podIP": POD_ADDRESS,
        "podIPs": [{"ip": POD_ADDRESS}],
        "conditions": conditions,
        "containerStatuses": [container_status],
    }


def make_fleet(finished: int, in_flight: int) -> list[Member]:
    """The fleet; agents with a run in progress come last."""
    now = datetime.now(UTC)
    return [Member(number, number >= finished, now) for number in range(finished + in_flight)]
