"""`serving.inferencePool` on the real API server with the Inference Extension's own schema; pods only pretend, no gateway runs."""

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.installed_crd import absent, install
from tests.tools import inference_extension

from subterra_operator.resources import KINDS, Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT, edited
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition, operated

SECOND = edited("You are a very helpful travel booking assistant.")
READY = "InferencePoolReady"
POOL = {"endpointPicker": {"name": "picker"}}


@pytest.fixture
async def crd(quiet: ClusterNamespace) -> AsyncIterator[Object]:
    """The CRD of InferencePools, which the API server does not have yet, or no longer."""
    async with absent(quiet, inference_extension.CRD) as found:
        yield found


def agent(pool: Object | None) -> Object:
    """The travel agent with a pool; `None` takes it away."""
    return {**copy.deepcopy(TRAVEL_AGENT), "spec": {**copy.deepcopy(TRAVEL_AGENT["spec"]), "serving": {"inferencePool": pool}}}


async def selected(world: ClusterNamespace, kind: str) -> Any:
    """The labels by which the agent's Service or InferencePool selects pods; `None` without one."""
    found = await world.get(kind, "travel")
    selector = found["spec"]["selector"] if found else None
    return selector["matchLabels"] if selector and kind == "InferencePool" else selector


async def follows(world: ClusterNamespace) -> None:
    """Waits until the pool selects what the Service does."""

    async def met() -> bool:
        service, pool = await selected(world, "Service"), await selected(world, "InferencePool")
        return service is not None and service == pool

    await world.until(met, "the pool has the pods of the version with the traffic")


async def test_the_pool_follows_the_traffic_is_restored_and_goes_with_its_setting(crd: Object, quiet: ClusterNamespace) -> None:
    await install(quiet, crd)
    async with operated(quiet) as world:
        await world.put(TRAVEL)
        await world.put(agent(POOL))
        await world.up_to_date()
        await follows(world)
        await world.condition("CompiledAgent", "travel", READY, "True", "InferencePoolReady")
        first = await selected(world, "Service")
        await world.put(SECOND)
        await world.up_to_date(procedure=SECOND)
        await follows(world)
        assert await selected(world, "Service") != first
        foreign = {"selector": {"matchLabels": {"app": "mine"}}, "targetPorts": [{"number": 9000}]}
        await world.change(_pool({"spec": foreign}))
        await follows(world)
        settled = await world.get("InferencePool", "travel")
        assert settled
        assert settled["spec"]["targetPorts"] == [{"number": 8000}]
        await world.touch("CompiledAgent", "travel")
        await asyncio.sleep(1)
        assert await world.get("InferencePool", "travel") == settled, "at rest, the pool is not written"
        await world.change(_pool({"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}))

        async def labelled() -> bool:
            found = await world.get("InferencePool", "travel")
            return bool(found and found["metadata"]["labels"].get("app.kubernetes.io/managed-by") == "subterra")

        await world.until(labelled, "the pool has its label again, by which it is watched")
        await world.put(agent(None))

        async def gone() -> bool:
            return await world.get("InferencePool", "travel") is None

        await world.until(gone, "the pool is gone")


async def test_a_pool_of_somebody_else_is_left_alone_and_traffic_moves(crd: Object, quiet: ClusterNamespace) -> None:
    await install(quiet, crd)
    spec = {
        "selector": {"matchLabels": {"app": "mine"}},
        "targetPorts": [{"number": 9000}],
        "endpointPickerRef": {"name": "mine", "port": {"number": 9002}},
    }
    await quiet.put(_pool({"spec": spec}))
    async with operated(quiet) as world:
        await world.put(TRAVEL)
        await world.put(agent(POOL))
        found = await world.condition("CompiledAgent", "travel", "UpToDate", "False", "NameTaken")
        assert "InferencePool" in condition(found, "UpToDate")["message"]
        await world.condition("CompiledAgent", "travel", "Ready", "True", "Serving")
        assert await selected(world, "InferencePool") == {"app": "mine"}
        await world.delete("InferencePool", "travel")
        await follows(world)


@pytest.mark.exhaustive
async def test_without_the_crd_all_goes_on_and_the_pool_is_made_once_it_is_there(crd: Object, quiet: ClusterNamespace) -> None:
    async with operated(quiet) as world:
        await world.put(TRAVEL)
        await world.put(agent(POOL))
        found = await world.condition("CompiledAgent", "travel", READY, "False", "InferencePoolBlocked")
        assert "install the Gateway API Inference Extension" in condition(found, READY)["message"]
        await world.up_to_date()
        await install(world, crd)
        await world.until(lambda: selected(world, "InferencePool"), "there is a pool", 150)
        await follows(world)


def _pool(change: Object) -> Object:
    """The pool with a change."""
    metadata = {"name": "travel", **change.get("metadata", {})}
    return {"apiVersion": KINDS["InferencePool"].api_version, "kind": "InferencePool", **change, "metadata": metadata}
