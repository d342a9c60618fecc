"""Names of all objects that the operator makes: short enough, and no two owners share one but for what is said here."""

import re
from collections import defaultdict
from collections.abc import Iterator

from subterra_api.job_contract.artifacts import STAGES
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_api.v1alpha1.gateway import CanarySettings, InferencePoolSettings
from subterra_api.v1alpha1.model_registry import ExportSettings
from subterra_operator.resources import Object, controller_uid
from subterra_operator.settings import Settings
from subterra_operator.specs.deployment import ServingTarget, deployment
from subterra_operator.specs.registry_pods import export_name
from subterra_operator.specs.run_input import input_name
from subterra_operator.specs.stage_env.job_set import job_set_name
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_operator.specs.traffic.disruption_budget import disruption_budget
from subterra_operator.specs.traffic.http_route import canary_service, http_route
from subterra_operator.specs.traffic.inference_pool import inference_pool
from subterra_operator.specs.traffic.network_policy import callers_policy, network_policies
from subterra_operator.specs.traffic.service import service
from subterra_operator.specs.vllm_container import Model
from subterra_operator.specs.volume_claim import store_claim
from subterra_testkit.cluster import kubernetes_objects as make

SUFFIXES = ("", "-canary", "-callers", "-input", "-headless", "-12345678", "-export-12345678", "-generate-1", "-train-1-attach")
AGENTS = (*(f"x{suffix}" for suffix in SUFFIXES), "subterra", "subterra-default", "subterra-store", "a" * 40, f"{'a' * 33}-canary")
ONE_VERSION = "12345678"
LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
GATEWAY = CanarySettings.model_validate({"gateway": {"name": "public"}})
POOL = InferencePoolSettings.model_validate({"endpointPicker": {"name": "picker"}})


def objects_of_agent(name: str) -> Iterator[tuple[str, str, str]]:
    """Kind, name and owner of everything that an agent may own."""
    agent = make.resource("CompiledAgent", name, make.agent()["spec"], uid=name)
    target = ServingTarget(Model("models/1", name), "sha256:1")
    made: list[Object] = [
        service(agent, 8000, ONE_VERSION, make.NOW),
        canary_service(agent, 8000, ONE_VERSION),
        http_route(agent, GATEWAY, 8000, 10),
        inference_pool(agent, POOL, ONE_VERSION),
        disruption_budget(agent, ONE_VERSION),
        callers_policy(agent, ["shop"]),
        deployment(agent, CompiledAgentSpec.model_construct(), target, Settings(), make.NOW),
    ]
    yield from ((obj["kind"], obj["metadata"]["name"], controller_uid(obj) or "") for obj in made)
    export = ExportSettings.model_validate({"to": "oci://registry.example/models"})
    yield "Job", export_name(name, export, "sha256:1"), name
    yield "CompileRun", f"{name}-{ONE_VERSION}", name


def objects_of_run(name: str) -> Iterator[tuple[str, str, str]]:
    """The same of a run, whose training may be on several nodes."""
    run = make.run(name=name, uid=f"run {name}")
    yield "ConfigMap", input_name(name), f"run {name}"
    for stage in STAGES:
        for number in (1, 2, 10, 12345678):
            for attach in (False, True):
                attempt = Attempt(stage, number, attach=attach)
                job = stage_job(run, ExecutionSettings(), attempt, Settings())
                yield job["kind"], job["metadata"]["name"], controller_uid(job) or ""
                yield "JobSet", job_set_name(attempt.job_name(name)), f"run {name}"


def test_names_are_short_enough_and_only_a_canarys_service_may_be_another_agents() -> None:
    owners = defaultdict[tuple[str, str], set[str]](set)
    for name in AGENTS:
        runs = (f"{name}-{ONE_VERSION}", name)
        for kind, found, owner in (*objects_of_agent(name), *(each for run in runs for each in objects_of_run(run))):
            assert LABEL.fullmatch(found), (kind, found)
            owners[kind, found].add(owner)
    for obj in (*network_policies("demo", Settings()), store_claim("demo", Settings())):
        owners[obj["kind"], obj["metadata"]["name"]].add("the namespace")
    shared = {key: found for key, found in owners.items() if len(found) > 1}
    assert shared == {("Service", "x-canary"): {"x", "x-canary"}}
