"""What others change behind the operator's back while an agent serves, on the real API server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from subterra_operator import controller
from subterra_operator.kube import apply
from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, operated

POLICIES = [
    *("subterra-default", "subterra-hub", "subterra-nodes"),
    *("subterra-providers", "subterra-ray", "subterra-registry", "subterra-serving"),
]


@pytest.fixture
async def serving(quiet: ClusterNamespace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ClusterNamespace]:
    """A namespace whose agent serves, with an operator that looks after everything every second."""
    monkeypatch.setattr(controller, "RESYNC_SECONDS", 1.0)
    monkeypatch.setattr(apply, "REWRITE_SECONDS", 0.5)
    async with operated(quiet):
        await quiet.put(TRAVEL)
        await quiet.put(TRAVEL_AGENT)
        await quiet.up_to_date()
        yield quiet


async def policy(world: ClusterNamespace, name: str) -> Object | None:
    return await world.get("NetworkPolicy", name)


async def test_a_network_policy_that_was_deleted_comes_back(serving: ClusterNamespace) -> None:
    for name in POLICIES:
        await serving.delete("NetworkPolicy", name)

    async def restored() -> bool:
        return sorted(await serving.names("NetworkPolicy")) == POLICIES

    await serving.until(restored, "all policies are there again")


async def test_a_network_policy_that_was_opened_is_closed_again_and_then_left_alone(serving: ClusterNamespace) -> None:
    before = await policy(serving, "subterra-serving")
    assert before
    await serving.change({**before, "spec": {**before["spec"], "ingress": [{}]}})

    async def closed() -> Object | None:
        found = await policy(serving, "subterra-serving")
        return found if found and found["spec"] == before["spec"] else None

    version = (await serving.until(closed, "the policy is as it was"))["metadata"]["resourceVersion"]
    await asyncio.sleep(3)  # three resyncs
    after = await policy(serving, "subterra-serving")
    assert after and after["metadata"]["resourceVersion"] == version


async def test_objects_with_the_heartbeats_name_are_what_they_are(serving: ClusterNamespace) -> None:
    name = "subterra-operator-heartbeat"
    await serving.put({**TRAVEL, "metadata": {**TRAVEL["metadata"], "name": name}})
    await serving.condition("Procedure", name, "Accepted", "True")
