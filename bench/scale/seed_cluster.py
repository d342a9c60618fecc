"""Creates a fleet on an API server without controllers, each object as they would leave it, and answers for its pods."""

import asyncio
import errno
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal

from aiohttp import web
from bench.scale.fleet import NAMESPACES, POD_ADDRESS, READY, Member, serving_status

from subterra_api.crd import all_crds
from subterra_api.job_contract.environment import EXPORTER_PORT, PROGRESS_PORT
from subterra_api.job_contract.messages import Progress
from subterra_jobs.exporter.meter import Reading, ServingMeter
from subterra_operator.kube.api_client import KubernetesApi
from subterra_operator.resources import Object
from subterra_testkit.cluster.operator_namespace import ClusterNamespace

CONCURRENCY = 16
CONVERSATIONS, TURNS, BUSY_SECONDS = 30, 5.0, 60.0
"""What each pod has served so far."""
PORT_SECONDS, PORT_PATIENCE = 5.0, 600.0
"""How often, and for how long, a port that is in use is tried again."""


def log(text: str) -> None:
    """Writes progress to standard error; standard output is for the result."""
    sys.stderr.write(f"{text}\n")


async def seed_cluster(api: KubernetesApi, fleet: Iterable[Member]) -> None:
    """Creates all objects of the fleet."""
    for number in range(NAMESPACES):
        await ClusterNamespace(api, f"fleet-{number}").prepare(all_crds())
    gate, done, members = asyncio.Semaphore(CONCURRENCY), 0, [*fleet]

    async def one(member: Member) -> None:
        nonlocal done
        async with gate:
            await _create_member(api, member)
        done += 1
        if done % max(1, len(members) // 10) == 0:
            log(f"{done} of {len(members)} agents created")

    await asyncio.gather(*(one(member) for member in members))


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
    """Serves progress and prices at the pods' address: a run at 42 %, and an exporter whose vLLM is idle after 30 conversations."""
    progress = Progress(stage="train", percent=42, done=42, planned=100, unit="steps", usd="0", tokens=0)
    meter = _used_meter()

    def price() -> str:
        meter.observe(time.monotonic(), Reading(running=0, completed=CONVERSATIONS * TURNS, inference_seconds=BUSY_SECONDS))
        return meter.price().model_dump_json(by_alias=True, exclude_none=True)

    runners = [
        await _answer(PROGRESS_PORT, "/progress", lambda: progress.model_dump_json(by_alias=True)),
        await _answer(EXPORTER_PORT, "/price", price),
    ]
    yield
    for runner in runners:
        await runner.cleanup()


def _used_meter() -> ServingMeter:
    """The exporter's own meter after some traffic; from then on its price with idle time grows with every second."""
    meter, now = ServingMeter(Decimal("2.50"), TURNS), time.monotonic()
    meter.observe(now - 2 * BUSY_SECONDS, Reading(running=0, completed=0, inference_seconds=0))
    meter.observe(now, Reading(running=0, completed=CONVERSATIONS * TURNS, inference_seconds=BUSY_SECONDS))
    return meter


async def _answer(port: int, path: str, text: Callable[[], str]) -> web.AppRunner:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=text())

    app = web.Application()
    app.router.add_get(path, handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await _listen(runner, port)
    return runner


async def _listen(runner: web.AppRunner, port: int) -> None:
    """Listens at the pods' address, once nobody else does: a stage on this machine uses the same port. Raises OSError."""
    deadline = time.monotonic() + PORT_PATIENCE
    while True:
        site = web.TCPSite(runner, POD_ADDRESS, port)
        try:
            return await site.start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            log(f"port {port} is in use; end the stage or bench that uses it; trying again in {PORT_SECONDS:.0f} s")
            await site.stop()
            await asyncio.sleep(PORT_SECONDS)
