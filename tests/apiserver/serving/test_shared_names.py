"""Agents `travel` and `travel-canary` in one namespace, on the real API server: both want the Service `travel-canary`."""

import copy

import pytest
from tests.apiserver.serving.test_canary import accept, agent, has, selected, served
from tests.installed_crd import absent, install
from tests.tools import gateway_api

from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT, edited
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition, operated

SECOND = edited("You are a very helpful travel booking assistant.")
NAMESAKE = copy.deepcopy(TRAVEL_AGENT) | {"metadata": {"name": "travel-canary"}}
OTHER = {**TRAVEL, "metadata": {"name": "other"}}
NAMESAKE["spec"]["compile"] = {**NAMESAKE["spec"]["compile"], "procedureRef": {"name": "other"}}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subterra_operator.controller.REFUSED_RETRY_SECONDS", 2.0)


async def owner(world: ClusterNamespace) -> str:
    """The agent whose pods the Service `travel-canary` selects, which must be its owner."""
    service = await world.get("Service", "travel-canary")
    assert service
    [reference] = service["metadata"]["ownerReferences"]
    assert service["spec"]["selector"]["subterra.dev/agent"] == reference["name"]
    found: str = reference["name"]
    return found


async def refused(world: ClusterNamespace, name: str, kind: str, words: str) -> Object:
    """Waits until an agent says whose the Service is; returns the agent."""
    found = await world.condition("CompiledAgent", name, kind, "False" if kind == "UpToDate" else "True", "NameTaken")
    assert f"Service {world.namespace}/travel-canary is {words}" in condition(found, kind)["message"]
    return found


async def test_neither_agent_takes_the_others_service_or_sends_requests_to_its_pods(quiet: ClusterNamespace) -> None:
    async with absent(quiet, gateway_api.CRD) as crd:
        await install(quiet, crd)
        async with operated(quiet, accept(quiet)) as world:
            await world.put(OTHER)
            first = await served(world)
            await world.put(SECOND)
            await has(world, {"travel": 90, "travel-canary": 10})
            await world.put(NAMESAKE)
            await refused(world, "travel-canary", "Stalled", "the canary's of CompiledAgent travel; delete this agent")
            assert await owner(world) == "travel"
            await world.change({**agent(), "spec": {"promotion": {"canary": None}}})
            await world.up_to_date(procedure=SECOND)
            await world.delete("Service", "travel-canary")
            await world.up_to_date("travel-canary")
            assert (await owner(world), await selected(world, "travel") != first) == ("travel-canary", True)
            await world.change(agent())
            await has(world, {"travel": 100})
            await world.up_to_date()
            await world.put(edited("You are the most helpful travel booking assistant."))
            told = await refused(world, "travel", "UpToDate", "that of CompiledAgent travel-canary, and this agent's canary")
            assert condition(told, "Ready")["status"] == "True"
            await has(world, {"travel": 100})
            assert await owner(world) == "travel-canary"
            await world.delete("CompiledAgent", "travel-canary")
            await has(world, {"travel": 90, "travel-canary": 10})
            assert await owner(world) == "travel"
