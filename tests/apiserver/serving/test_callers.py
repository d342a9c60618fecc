"""An agent with a key, callers and two replicas on the real API server."""

import asyncio
import copy

import pytest

from subterra_operator.kube import apply
from subterra_operator.labels import CALLERS_LABEL
from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace


def agent(*namespaces: str) -> Object:
    """The travel agent with two replicas."""
    found = copy.deepcopy(TRAVEL_AGENT)
    found["spec"]["serving"] = {
        "replicas": 2,
        "apiKeySecret": {"name": "travel-key"},
        "allowedNamespaces": list(namespaces),
    }
    return found


async def callers(world: ClusterNamespace) -> list[str]:
    """Namespaces that the policy lets in."""
    policy = await world.get("NetworkPolicy", "travel-callers")
    if policy is None:
        return []
    [rule] = policy["spec"]["ingress"]
    found: list[str] = rule["from"][0]["namespaceSelector"]["matchExpressions"][0]["values"]
    return found


async def test_callers_and_budget_are_kept_and_another_list_restarts_nothing(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    await world.put(agent("shop"))
    before = (await world.up_to_date())["status"]["serving"]
    [deployed] = await world.all("Deployment")
    pod = deployed["spec"]["template"]
    [vllm] = pod["spec"]["containers"]
    key = {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "travel-key", "key": "apiKey"}}}
    assert key in vllm["env"], "as it was sent"
    assert pod["metadata"]["labels"][CALLERS_LABEL] == "listed"
    assert await callers(world) == ["shop"]
    budget = await world.get("PodDisruptionBudget", "travel")
    assert budget and budget["spec"]["selector"]["matchLabels"]["subterra.dev/version"] == before["version"]

    await world.put(agent("shop", "web"))

    async def both() -> bool:
        return await callers(world) == ["shop", "web"]

    await world.until(both, "the second namespace may call")
    after = (await world.up_to_date())["status"]["serving"]
    assert (after, [item["metadata"]["uid"] for item in await world.all("Deployment")]) == (before, [deployed["metadata"]["uid"]])


async def test_the_budget_allows_one_disruption_and_is_left_alone(world: ClusterNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "REWRITE_SECONDS", 0.0)
    await world.put(TRAVEL)
    await world.put(agent("shop"))
    await world.up_to_date()

    async def counted() -> Object | None:
        found = await world.get("PodDisruptionBudget", "travel")
        return found if found and found.get("status", {}).get("currentHealthy") == 2 else None

    budget = await world.until(counted, "the disruption controller has counted the pods")
    assert budget["status"]["disruptionsAllowed"] == 1
    before = await written(world)
    for _ in range(3):
        await world.touch("CompiledAgent", "travel")
        await asyncio.sleep(0.5)  # a reconcile takes milliseconds
    assert await written(world) == before


async def written(world: ClusterNamespace) -> list[list[str]]:
    """When the operator last wrote policy and budget."""
    found = [await world.get(kind, name) for kind, name in (("NetworkPolicy", "travel-callers"), ("PodDisruptionBudget", "travel"))]
    return [[entry["time"] for entry in obj["metadata"]["managedFields"] if entry["manager"] == "subterra"] for obj in found if obj]
