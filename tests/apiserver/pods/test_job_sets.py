"""Trainings on several nodes against a real API server, with JobSet's own schema and controller."""

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from tests.apiserver.pods.test_pod_template import dry_run
from tests.installed_crd import absent, install, lost
from tests.tools import jobset

from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_cluster.config import default_cache
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.resources import KINDS, Kind, Object
from subterra_operator.settings import Settings
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition, running_operator

TWO = {"train": {"nodes": 2}}
WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


@pytest.fixture
async def crd(quiet: ClusterNamespace) -> AsyncIterator[Object]:
    """JobSet's CRD, which the API server does not have yet, or no longer."""
    async with absent(quiet, jobset.CRD) as found:
        yield found


def agent() -> Object:
    """The travel agent, trained on two nodes."""
    found = copy.deepcopy(TRAVEL_AGENT)
    found["spec"]["compile"].setdefault("template", {})["execution"] = TWO
    return found


async def test_the_schema_takes_the_jobset_as_it_is_built(plane: ControlPlane, quiet: ClusterNamespace, crd: Object) -> None:
    await install(quiet, crd)
    execution = ExecutionSettings.model_validate({**TWO, "queueName": "gpus"})
    built = stage_job(make.run(), execution, Attempt("train", 1), Settings())
    stored = yaml.safe_load(dry_run(plane, quiet.namespace, built))
    assert list(lost(built["spec"], stored["spec"], "spec")) == []


async def test_a_cluster_that_gets_jobset_later_trains_without_a_restart_of_the_operator(
    crd: Object, world: ClusterNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subterra_operator.framework.census.INTERVAL_SECONDS", 2.0)
    world.kubelet.held = {"train"}
    await world.put(TRAVEL)
    await world.put(agent())

    async def refused() -> bool:
        runs = await world.all("CompileRun")
        decided = runs and runs[0].get("status", {}).get("conditions")
        return bool(decided and condition(runs[0], "Stalled")["reason"] == "InvalidSpec")

    await world.until(refused, "the run is refused")
    [run] = await world.all("CompileRun")
    message = condition(run, "Stalled")["message"]
    assert "execution.train.nodes is 2, but this cluster has no JobSets (jobsets.jobset.x-k8s.io)" in message
    assert "install JobSet (https://jobset.sigs.k8s.io)" in message
    assert await world.names("Job") == []
    await install(world, crd)
    [made] = await world.until(lambda: world.all("JobSet"), "the training is created", 120)
    assert made["metadata"]["name"].endswith("-train-1")


@pytest.mark.exhaustive  # the controller takes four minutes of a core to build
async def test_jobsets_own_controller_runs_the_pods_and_a_dead_one_restarts_them_all(
    crd: Object, quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path
) -> None:
    if not (program := jobset.controller_path(default_cache())).exists():
        pytest.skip("the controller is not built: make test-exhaustive builds it")
    await install(quiet, crd)
    with jobset.running_controller(program, plane.kubeconfig, tmp_path) as webhooks:
        for kind in WEBHOOKS:
            KINDS[kind] = Kind(kind, "admissionregistration.k8s.io", "v1", f"{kind.lower()}s", ours=True)
        try:
            for webhook in webhooks:
                await quiet.put(webhook, namespaced=False)
            kubelet = asyncio.create_task(quiet.kubelet.run())
            async with running_operator(Settings(watch_namespaces=(quiet.namespace,), namespace=quiet.namespace)):
                await run_through(quiet)
            kubelet.cancel()
        finally:
            for webhook in webhooks:
                await quiet.api._call("DELETE", KINDS[webhook["kind"]].path(None, webhook["metadata"]["name"]))


async def run_through(world: ClusterNamespace) -> None:
    """A training whose first attempt loses a pod, and whose second one succeeds."""
    world.kubelet.exits["train"] = [(14, "a rank was killed")]
    await world.put(TRAVEL)
    await world.put(agent())

    async def serves() -> bool:
        found = await world.get("CompiledAgent", "travel")
        return bool(found and found.get("status", {}).get("conditions") and condition(found, "UpToDate")["status"] == "True")

    await world.until(serves, "the agent is served", 180)
    [run] = await world.all("CompileRun")
    train = run["status"]["stages"][1]
    assert (train["state"], train["attempt"], train["retries"]) == ("Succeeded", 2, 1)

    async def both_ended() -> bool:
        return [each["status"].get("terminalState") for each in await world.all("JobSet")] == ["Failed", "Completed"]

    await world.until(both_ended, "JobSet's controller has seen both attempts end", 60)
    _, second = await world.all("JobSet")
    service = await world.get("Service", second["metadata"]["name"])
    assert service is not None and service["spec"]["clusterIP"] == "None"
