"""Generations over several pods against a real API server, with KubeRay's own schema and operator."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml
from tests.apiserver.pods.test_pod_template import dry_run
from tests.installed_crd import absent, install, lost
from tests.tools import kuberay

from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_cluster.config import default_cache
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_operator.resources import KINDS, Kind, Object
from subterra_operator.settings import Settings
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition, running_operator

MANY = {"generate": {"workers": 10}}
OTHERS = {"RayCluster": "rayclusters", "RayService": "rayservices", "RayCronJob": "raycronjobs"}


@pytest.fixture
async def crds(quiet: ClusterNamespace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Object]]:
    """KubeRay's CRDs, which the API server does not have yet, or no longer; that of RayJobs comes first."""
    for kind, plural in OTHERS.items():
        monkeypatch.setitem(KINDS, kind, Kind(kind, "ray.io", "v1", plural, ours=True))
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(absent(quiet, crd)) for crd in kuberay.CRDS]


def agent() -> Object:
    """The travel agent, whose conversations ten processes write."""
    found = copy.deepcopy(TRAVEL_AGENT)
    found["spec"]["compile"].setdefault("template", {})["execution"] = MANY
    return found


async def test_the_schema_takes_the_rayjob_as_it_is_built(plane: ControlPlane, quiet: ClusterNamespace, crds: list[Object]) -> None:
    await install(quiet, crds[0])
    execution = ExecutionSettings.model_validate({**MANY, "queueName": "cpus"})
    built = stage_job(make.run(), execution, Attempt("generate", 1), Settings(), ray_jobs=True)
    stored = yaml.safe_load(dry_run(plane, quiet.namespace, built))
    assert list(lost(built["spec"], stored["spec"], "spec")) == []


async def test_a_cluster_without_kuberay_generates_in_one_pod_and_says_why(crds: list[Object], world: ClusterNamespace) -> None:
    world.kubelet.held = {"generate"}
    await world.put(TRAVEL)
    await world.put(agent())

    async def said() -> str:
        runs = await world.all("CompileRun")
        stages = runs[0].get("status", {}).get("stages") if runs else None
        return str(stages[0].get("message")) if stages else ""

    message = await world.until(said, "the generation has started")
    assert "4 of 10 workers write, in one pod, because this cluster has no RayJobs (rayjobs.ray.io)" in message
    assert "install KubeRay" in message
    assert [name for name in await world.names("Job") if name.endswith("-generate-1")]


@pytest.mark.exhaustive  # the operator takes four minutes of a core to build
async def test_kuberays_own_operator_runs_the_pods_and_an_attempt_that_fails_is_followed_by_another_rayjob(
    crds: list[Object], quiet: ClusterNamespace, plane: ControlPlane, tmp_path: Path
) -> None:
    if not (program := kuberay.operator_path(default_cache())).exists():
        pytest.skip("the operator is not built: make test-exhaustive builds it")
    for crd in crds:
        await install(quiet, crd)
    dashboards = kuberay.Dashboards()
    dashboards.jobs[""] = "SUCCEEDED"  # of every driver that has ended
    with kuberay.running_operator(program, plane.kubeconfig, quiet.namespace, tmp_path, dashboards):
        kubelet = asyncio.create_task(quiet.kubelet.run())
        async with running_operator(Settings(watch_namespaces=(quiet.namespace,), namespace=quiet.namespace)):
            await run_through(quiet)
        kubelet.cancel()


async def run_through(world: ClusterNamespace) -> None:
    """A generation whose first attempt fails, and whose second one succeeds; its pods are restricted, and are gone afterwards."""
    world.kubelet.exits["generate"] = [(14, "3 workers died without making progress")]
    world.kubelet.held = {"train"}
    await world.put(TRAVEL)
    await world.put(agent())

    async def generated() -> bool:
        runs = await world.all("CompileRun")
        decided = runs and runs[0].get("status", {}).get("conditions")
        return bool(decided and condition(runs[0], "Generated")["status"] == "True")

    await world.until(generated, "the conversations are written", 240)
    [run] = await world.all("CompileRun")
    generate = run["status"]["stages"][0]
    assert (generate["state"], generate["attempt"], generate["retries"]) == ("Succeeded", 2, 1)

    async def ended() -> list[str]:
        states = [each.get("status", {}).get("jobDeploymentStatus") for each in await world.all("RayJob")]
        return states if states == ["Failed", "Complete"] else []

    await world.until(ended, "KubeRay sees the same", 60)

    async def released() -> bool:
        return not await world.all("RayCluster")

    await world.until(released, "nothing of the clusters is left", 60)
