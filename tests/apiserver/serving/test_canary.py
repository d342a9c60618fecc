"""`promotion.canary` on the real API server with the Gateway API's own schema; the gateway and the pods only pretend."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web
from tests.installed_crd import absent, install
from tests.tools import gateway_api

from subterra_operator.kube.api_client import ApiError
from subterra_operator.monitoring import pod_poller
from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT, edited
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition, operated
from subterra_testkit.servers.local_server import free_port

SECOND = edited("You are a very helpful travel booking assistant.")
STEPS = [{"weight": 10, "seconds": 600}, {"weight": 50, "seconds": 600}]
ALL_OLD = {"travel": 100}


@pytest.fixture
async def crd(quiet: ClusterNamespace) -> AsyncIterator[Object]:
    """The CRD of HTTPRoutes, which the API server does not have yet, or no longer."""
    async with absent(quiet, gateway_api.CRD) as found:
        yield found


async def accept(world: ClusterNamespace) -> None:
    """Does what a gateway's controller does for routes, until cancelled."""
    accepted = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "lastTransitionTime": "2026-11-20T12:00:00Z",
    }
    while True:
        with suppress(ApiError):  # such as while there are no HTTPRoutes
            for route in await world.all("HTTPRoute"):
                parent = {
                    "parentRef": route["spec"]["parentRefs"][0],
                    "controllerName": "example.com/gateway",
                    "conditions": [accepted],
                }
                if not route.get("status", {}).get("parents"):
                    metadata = {"name": route["metadata"]["name"], "namespace": world.namespace}
                    head = {"apiVersion": route["apiVersion"], "kind": route["kind"], "metadata": metadata}
                    await world.api.patch({**head, "status": {"parents": [parent]}}, "status")
        await asyncio.sleep(0.2)


def agent(**canary: Any) -> Object:
    """The travel agent with a canary."""
    found = copy.deepcopy(TRAVEL_AGENT)
    settings = {
        "gateway": {"name": "public", "namespace": "infra"},
        "hostnames": ["travel.example"],
        "steps": STEPS,
        "minRequests": 0,
    }
    found["spec"]["promotion"] = {"canary": settings | canary}
    return found


async def served(world: ClusterNamespace) -> str:
    """Serves the first version, and waits until a gateway has accepted its route; returns its name."""
    await world.put(TRAVEL)
    await world.put(agent())
    await world.until(lambda: weights(world), "there is a route")
    found = await world.up_to_date()
    version: str = found["status"]["serving"]["version"]
    return version


async def weights(world: ClusterNamespace) -> dict[str, int]:
    """What the route says; empty without one."""
    route = await world.get("HTTPRoute", "travel")
    [rule] = route["spec"]["rules"] if route else [{"backendRefs": []}]
    return {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}


async def has(world: ClusterNamespace, wanted: dict[str, int]) -> None:
    async def met() -> bool:
        return await weights(world) == wanted

    await world.until(met, f"the route has the weights {wanted}")


async def reaches(world: ClusterNamespace, step: int) -> None:
    """Waits until the status says that the canary is in this step.

    The route is written before it; what a test changes in between would be there when the step begins.
    """

    async def met() -> bool:
        found = await world.get("CompiledAgent", "travel")
        return bool(found and found["status"].get("canary", {}).get("step") == step)

    await world.until(met, f"the canary is in step {step}")


async def selected(world: ClusterNamespace, name: str) -> str:
    """The version that a Service selects."""
    service = await world.get("Service", name)
    assert service
    version: str = service["spec"]["selector"]["subterra.dev/version"]
    return version


async def test_traffic_moves_in_steps_through_a_gateway(crd: Object, quiet: ClusterNamespace) -> None:
    await install(quiet, crd)
    async with operated(quiet, accept(quiet)) as gateway:
        first = await served(gateway)
        assert await weights(gateway) == ALL_OLD
        route = await gateway.get("HTTPRoute", "travel")
        assert route
        assert route["metadata"]["ownerReferences"][0]["kind"] == "CompiledAgent"
        await gateway.put(SECOND)
        await has(gateway, {"travel": 90, "travel-canary": 10})
        assert await selected(gateway, "travel") == first
        found = await gateway.condition("CompiledAgent", "travel", "UpToDate", "False", "Canary")
        second = found["status"]["canary"]["version"]
        assert (await selected(gateway, "travel-canary"), second != first) == (second, True)
        with gateway.clock.ahead(601):
            await gateway.touch("CompiledAgent", "travel")
            await has(gateway, {"travel": 50, "travel-canary": 50})
            await reaches(gateway, 2)
        with gateway.clock.ahead(1300):
            await gateway.touch("CompiledAgent", "travel")
            await gateway.up_to_date(procedure=SECOND)
            await has(gateway, ALL_OLD)
        assert await selected(gateway, "travel") == second
        settled = await gateway.get("HTTPRoute", "travel")
        await gateway.touch("CompiledAgent", "travel")
        await asyncio.sleep(1)
        assert await gateway.get("HTTPRoute", "travel") == settled, "at rest, the route is not written"


async def test_too_many_failed_requests_take_the_traffic_back(
    crd: Object, quiet: ClusterNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = {"requests": 100.0, "failedRequests": 0.0}
    async with exporter(monkeypatch, work):
        quiet.kubelet.address = "127.0.0.1"
        await install(quiet, crd)
        async with operated(quiet, accept(quiet)) as gateway:
            first = await served(gateway)
            await gateway.put(SECOND)
            await has(gateway, {"travel": 90, "travel-canary": 10})
            await reaches(gateway, 1)  # with what had failed by then
            work |= {"requests": 200.0, "failedRequests": 9.0}
            found = await gateway.condition("CompiledAgent", "travel", "UpToDate", "False", "CanaryAborted")
        text = condition(found, "UpToDate")["message"]
        assert "requests failed with a status of 500 or above, and spec.promotion.canary.maxErrorRate is 0.01" in text
        assert (await weights(gateway), await selected(gateway, "travel")) == (ALL_OLD, first)
        assert condition(found, "Ready")["status"] == "True"

        async def stopped() -> bool:
            return sorted(each["spec"]["replicas"] for each in await gateway.all("Deployment")) == [0, 1]

        await gateway.until(stopped, "the new version is stopped")


@asynccontextmanager
async def exporter(monkeypatch: pytest.MonkeyPatch, work: dict[str, float]) -> AsyncIterator[None]:
    """The page `/price` of every serving pod, polled often."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"work": work})

    port, application = free_port(), web.Application()
    application.router.add_get("/price", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    monkeypatch.setattr(pod_poller, "EXPORTER_PORT", port)
    for name in ("POLL_SECONDS", "PRICE_SECONDS", "QUIET_PRICE_SECONDS"):
        monkeypatch.setattr(pod_poller, name, 0.3)
    yield
    await runner.cleanup()


@pytest.mark.exhaustive
async def test_without_the_gateway_api_nothing_moves_until_it_is_there(crd: Object, quiet: ClusterNamespace) -> None:
    async with operated(quiet, accept(quiet)) as gateway:
        await gateway.put(TRAVEL)
        await gateway.put(agent())
        told = await gateway.condition("CompiledAgent", "travel", "UpToDate", "False", "CanaryBlocked")
        assert "install the Gateway API" in condition(told, "UpToDate")["message"]
        await gateway.condition("CompiledAgent", "travel", "Ready", "True", "Serving")
        first = await selected(gateway, "travel")
        await gateway.put(SECOND)

        async def blocked() -> bool:
            found = await gateway.get("CompiledAgent", "travel")
            return bool(found and "gets no traffic" in condition(found, "UpToDate")["message"])

        await gateway.until(blocked, "the second version is blocked")
        assert (await selected(gateway, "travel"), len(await gateway.names("Deployment"))) == (first, 1)
        await install(gateway, crd)
        await gateway.until(lambda: weights(gateway), "there is a route", 150)
        await has(gateway, {"travel": 90, "travel-canary": 10})
