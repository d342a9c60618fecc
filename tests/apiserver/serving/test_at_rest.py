"""An agent that serves and has no traffic, on the real API server: its price with idle time grows, and nothing is written."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from subterra_api.job_contract.environment import EXPORTER_PORT
from subterra_api.job_contract.messages import PodPrice, ServedWork
from subterra_operator import controller
from subterra_operator.monitoring import pod_poller
from subterra_operator.monitoring.series import REGISTRY
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, running_operator

RESYNC_SECONDS = 1.0
ADDRESS = "127.87.0.2"
"""The pretended pod's address on this machine's loopback interface."""


class Exporter:
    """A price exporter whose pod grows older with each answer."""

    def __init__(self) -> None:
        self.answers, self.conversations = 0, 4

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/price", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, ADDRESS, EXPORTER_PORT).start()
        yield
        await runner.cleanup()

    async def _answer(self, _: web.Request) -> web.Response:
        self.answers += 1
        work = ServedWork(busy_seconds=40, seconds=1000 + 30 * self.answers, conversations=self.conversations)
        price = PodPrice(conversations=self.conversations, work=work)
        return web.Response(text=price.model_dump_json(by_alias=True, exclude_none=True))


async def give_address(world: ClusterNamespace) -> None:
    """Gives the serving pod an address, as its kubelet would."""
    [pod] = [pod for pod in await world.all("Pod") if "subterra.dev/version" in pod["metadata"]["labels"]]
    metadata = {name: pod["metadata"][name] for name in ("name", "namespace")}
    status = {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}
    await world.api.patch({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}, "status")


def with_idle(agent: Object) -> float | None:
    """The price with idle time that /metrics has."""
    labels = {"namespace": agent["metadata"]["namespace"], "agent": "travel", "version": agent["status"]["serving"]["version"]}
    return REGISTRY.get_sample_value("subterra_compiledagent_usd_per_conversation_with_idle", labels)


async def test_an_agent_without_traffic_is_written_no_more_however_its_price_grows(
    monkeypatch: pytest.MonkeyPatch, quiet: ClusterNamespace
) -> None:
    for name in ("POLL_SECONDS", "PRICE_SECONDS", "QUIET_PRICE_SECONDS"):
        monkeypatch.setattr(pod_poller, name, 0.1)
    monkeypatch.setattr(controller, "RESYNC_SECONDS", RESYNC_SECONDS)
    exporter, kubelet = Exporter(), asyncio.create_task(quiet.kubelet.run())
    async with exporter.serving(), running_operator(Settings(watch_namespaces=(quiet.namespace,), namespace=quiet.namespace)):
        await quiet.put(TRAVEL)
        await quiet.put(TRAVEL_AGENT)
        await quiet.up_to_date()
        await give_address(quiet)
        before = await quiet.until(lambda: priced(quiet), "the agent has a price", 60)
        price, answers = with_idle(before), exporter.answers
        await asyncio.sleep(3 * RESYNC_SECONDS)
        await quiet.until(lambda: asyncio.sleep(0, exporter.answers >= answers + 20), "twenty polls are answered", 60)
        after = await quiet.get("CompiledAgent", "travel")
        assert after
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        grown = with_idle(after)
        assert price and grown and grown > price, "the metrics have every measurement"
        kubelet.cancel()


async def priced(world: ClusterNamespace) -> Object | None:
    found = await world.get("CompiledAgent", "travel")
    return found if found and found["status"].get("price", {}).get("usdPerConversation") else None
