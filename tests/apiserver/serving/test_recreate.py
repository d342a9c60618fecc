"""`promotion.rollout: Recreate` in a namespace with one GPU: a ResourceQuota of the real API server allows one pod with one."""

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from subterra_operator.labels import VERSION_LABEL
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT, edited
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition, running_operator

GPU = "nvidia.com/gpu"
SECOND = edited("You are a very helpful travel booking assistant.")
ONE_GPU = {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {GPU: "1"}}}


@pytest.fixture
async def one_gpu(quiet: ClusterNamespace) -> AsyncIterator[ClusterNamespace]:
    """A namespace with one GPU and an operator."""
    settings = Settings(watch_namespaces=(quiet.namespace,), namespace=quiet.namespace, jobs_gpu_image="jobs-gpu:1")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"}, "spec": {"hard": {f"requests.{GPU}": "1"}}}
    await quiet.put(quota)
    kubelet = asyncio.create_task(quiet.kubelet.run())
    try:
        async with running_operator(settings, quiet.clock):
            yield quiet
    finally:
        kubelet.cancel()


def agent(rollout: str, **promotion: Any) -> Object:
    """The travel agent on one GPU."""
    found = copy.deepcopy(TRAVEL_AGENT)
    found["spec"] |= {"serving": ONE_GPU, "promotion": {"rollout": rollout, **promotion}}
    return found


async def served(world: ClusterNamespace, rollout: str, **promotion: Any) -> str:
    """Serves the first version; returns its name."""
    await world.put(TRAVEL)
    await world.put(agent(rollout, **promotion))
    found = await world.up_to_date()
    version: str = found["status"]["serving"]["version"]
    return version


async def most_pods(world: ClusterNamespace) -> int:
    """The most serving pods at once, counted until cancelled."""
    most = 0
    try:
        while True:
            most = max(most, sum(VERSION_LABEL in pod["metadata"]["labels"] for pod in await world.all("Pod")))
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return most


async def test_a_promotion_that_waits_for_a_second_gpu_goes_on_once_recreate_is_set(one_gpu: ClusterNamespace) -> None:
    first = await served(one_gpu, "BlueGreen")
    await one_gpu.put(SECOND)
    await one_gpu.until(lambda: deployments(one_gpu), "the second version has a Deployment")
    found = await one_gpu.condition("CompiledAgent", "travel", "UpToDate", "False", "Starting")
    assert (found["status"]["serving"]["version"], condition(found, "Ready")["status"]) == (first, "True")
    await one_gpu.put(agent("Recreate"))
    await one_gpu.up_to_date(procedure=SECOND)


async def deployments(world: ClusterNamespace) -> bool:
    return len(await world.names("Deployment")) == 2


async def running(world: ClusterNamespace, but: str) -> bool:
    """Whether another version than that one has replicas."""
    return any(each["spec"]["replicas"] for each in await world.all("Deployment") if each["metadata"]["name"] != f"travel-{but}")


async def test_recreate_replaces_a_version_on_one_gpu_and_reports_the_downtime(one_gpu: ClusterNamespace) -> None:
    first = await served(one_gpu, "Recreate")
    counting = asyncio.create_task(most_pods(one_gpu))
    await one_gpu.put(SECOND)
    found = await one_gpu.up_to_date(procedure=SECOND)

    async def closed() -> Object | None:
        agent = await one_gpu.get("CompiledAgent", "travel")
        return agent["status"] if agent and agent["status"].get("downtime", {}).get("until") else None

    status = await one_gpu.until(closed, "the downtime has ended")
    counting.cancel()
    downtime, second = status["downtime"], found["status"]["serving"]["version"]
    print(f"downtime of a promotion on one GPU, with a kubelet that loads at once: {downtime['seconds']} s")
    assert second != first
    assert (downtime["version"], downtime["rolledBack"]) == (second, False)
    assert downtime["seconds"] <= await one_gpu.allowance(5)
    assert await counting == 1
    assert condition(await one_gpu.condition("CompiledAgent", "travel", "Ready", "True"), "Reconciling")["status"] == "False"


async def test_a_version_that_does_not_start_is_rolled_back_by_itself(one_gpu: ClusterNamespace) -> None:
    deadline = 60  # the shortest
    first = await served(one_gpu, "Recreate", progressDeadlineSeconds=deadline)
    one_gpu.kubelet.serving_ready = False
    await one_gpu.put(SECOND)
    down = await one_gpu.condition("CompiledAgent", "travel", "Ready", "False", "NotServing")
    assert "stopped while another one starts" in condition(down, "Ready")["message"]
    await one_gpu.until(lambda: running(one_gpu, but=first), "the second version has been started: its deadline counts from there")

    async def given_up() -> Object | None:
        found = await one_gpu.condition("CompiledAgent", "travel", "UpToDate", "False")
        return found if condition(found, "UpToDate")["reason"] == "ServingFailed" else None

    with one_gpu.clock.ahead(deadline):
        await one_gpu.touch("CompiledAgent", "travel")
        await one_gpu.until(given_up, "the second version is given up", 90)
        one_gpu.kubelet.serving_ready = True
        found = await one_gpu.condition("CompiledAgent", "travel", "Ready", "True", "Serving")
    assert (found["status"]["serving"]["version"], found["status"]["downtime"]["rolledBack"]) == (first, True)
    assert found["status"]["downtime"]["seconds"] >= deadline
