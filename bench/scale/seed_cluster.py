"""Creates a fleet on an API server without controllers, each object as they would leave it, and answers for its pods."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiohttp import web
from bench.scale.fleet import NAMESPACES, POD_ADDRESS, READY, Member, serving_status

from subterra_api.crd import all_crds
from subterra_api.job_contract.environment import EXPORTER_PORT, PROGRESS_PORT
from subterra_api.job_contract.messages import Progress
from subterra_api.v1alpha1.compiledagent import Price
from subterra_operator.kube.api_client import KubernetesApi
from subterra_operator.resources import Object
from subterra_testkit.cluster.operator_namespace import ClusterNamespace

CONCURRENCY = 16


def log(text: str) -> None:
    """Writes progress to standard error; standard output is for the result."""
    sys.stderr.write(f"{text}\n")


async def seed_cluster(api: KubernetesApi, fleet: Iterable[Member]) -> None:
    """Creates all objects of the fleet."""
    for number in range(NAMESPACES):
        await ClusterNamespace(api, f"fleet-{number}").prepare(all_crds())
    gate, done = asyncio.Semaphore(CONCURRENCY), 0

    async def one(member: Member) -> None:
        nonlocal done
        async with gate:
            await _create_member(api, member)
        done += 1
        if done % 100 == 0:
            log(f"{done} agents created")

    await asyncio.gather(*(one(member) for member in fleet))


async def _create_member(api: KubernetesApi, member: Member) -> None:
    await api.create(member.procedure())
    agent = await api.create(member.agent())
    run = await api.apply(member.run(agent))
    frozen = await api.create(member.input(run))
    run = await _status(api, run, member.run_status(run, frozen))
    for stage in member.stages:
        job = await _status(api, await api.create(member.job(run, stage)), member.job_status(stage))
        pod = await api.create(member.job_pod(job))
        await _status(api, pod, member.job_pod_status(stage, frozen))
    if not member.in_flight:
        deployed = await _status(api, await api.create(member.deployment(agent, run)), READY)
        await _status(api, await api.create(member.serving_pod(deployed)), serving_status())
        await api.create(member.service(agent, run))


async def _status(api: KubernetesApi, obj: Object, status: Object) -> Object:
    metadata = {key: obj["metadata"][key] for key in ("name", "namespace")}
    return await api.patch({"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata, "status": status}, "status")


@asynccontextmanager
async def serve_pod_endpoints() -> AsyncIterator[None]:
    """Serves progress and prices at the pods' address; the values stay constant."""
    progress = Progress(stage="train", percent=42, done=42, planned=100, unit="steps", usd="0", tokens=0)
    price = Price(usd_per_conversation="0.001", conversations=30, usd_per_hour="2.50", idle_percent=50)
    runners = [
        await _answer(PROGRESS_PORT, "/progress", progress.model_dump_json(by_alias=True)),
        await _answer(EXPORTER_PORT, "/price", price.model_dump_json(by_alias=True)),
    ]
    yield
    for runner in runners:
        await runner.cleanup()


async def _answer(port: int, path: str, text: str) -> web.AppRunner:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get(path, handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, POD_ADDRESS, port).start()
    return runner
