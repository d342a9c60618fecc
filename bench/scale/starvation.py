"""One namespace full of the most expensive procedures: how long another waits, and how long the probes take."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
from bench.scale.measure import Operator
from bench.scale.seed_cluster import log

from subterra_api.crd import all_crds
from subterra_api.v1alpha1 import API_VERSION
from subterra_operator.kube.api_client import AlreadyExistsError, ApiError, KubernetesApi
from subterra_operator.resources import Key, Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL
from subterra_testkit.cluster.operator_namespace import ClusterNamespace
from subterra_testkit.worst_procedures import SHAPES

FLOOD, QUIET = "fleet-flood", "fleet-quiet"
PROBE_SECONDS = 0.25
OTHERS = 10
"""Procedures of the other namespace, one after the other."""
PATIENCE = 600.0


def worst(number: int) -> Object:
    """An expensive Procedure; no two are alike, so that none is remembered."""
    shape = list(SHAPES.values())[number % len(SHAPES)]
    spec = {**shape(500 * 1024), "systemPrompt": f"You are number {number}."}
    return _procedure(f"worst-{number:04d}", FLOOD, spec)


def _procedure(name: str, namespace: str, spec: Object) -> Object:
    return {"apiVersion": API_VERSION, "kind": "Procedure", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


async def measure_starvation(api: KubernetesApi, operator: Operator, flood: int) -> dict[str, float]:
    """Creates ``flood`` expensive Procedures in one namespace, then others in another one while these are checked."""
    for namespace in (FLOOD, QUIET):
        await ClusterNamespace(api, namespace).prepare(all_crds())
    started, waits = time.monotonic(), list[float]()
    async with _probes(operator.port) as latencies:
        writing = asyncio.create_task(_create_all(api, flood))
        for number in range(OTHERS):
            name = f"quiet-{number}"
            await _create(api, _procedure(name, QUIET, {**TRAVEL["spec"], "systemPrompt": f"You are quiet {number}."}))
            waits.append(await _seconds_until_checked(api, Key("Procedure", QUIET, name)))
        await writing
        log(f"others waited up to {max(waits):.1f} s; waiting until all expensive procedures are checked")
        for number in range(flood):
            await _seconds_until_checked(api, Key("Procedure", FLOOD, f"worst-{number:04d}"))
    log(f"{flood} expensive procedures checked in {time.monotonic() - started:.0f} s; others waited up to {max(waits):.1f} s")
    ordered = sorted(latencies)
    return {
        "starved_accept_seconds_max": round(max(waits), 2),
        "starved_healthz_p99_ms": round(1000 * ordered[int(0.99 * len(ordered))]),
        "starved_healthz_max_ms": round(1000 * ordered[-1]),
        "starved_seconds": round(time.monotonic() - started),
        "starved_rss_peak_mib": round(operator.memory()[1]),
    }


async def _create_all(api: KubernetesApi, flood: int) -> None:
    for number in range(flood):
        await _create(api, worst(number))


async def _create(api: KubernetesApi, obj: Object) -> None:
    """Creates an object, however long the API server of a busy machine takes: for half a megabyte that may be a minute."""
    while True:
        try:
            await api.create(obj)
        except AlreadyExistsError:
            return
        except ApiError as error:
            if 0 < error.code < 500 and error.code != 429:
                raise
            log(f"{obj['metadata']['name']}: {error}; trying again")
        else:
            return


async def _seconds_until_checked(api: KubernetesApi, key: Key) -> float:
    """Seconds until the status says whether the Procedure is accepted. Raises TimeoutError."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        while True:
            status = await _status(api, key)
            if any(condition["type"] == "Accepted" for condition in status.get("conditions", [])):
                return time.monotonic() - began
            await asyncio.sleep(0.1)


async def _status(api: KubernetesApi, key: Key) -> Object:
    """The status; empty if there is none, or no answer in time."""
    try:
        return (await api.get(key)).get("status") or {}
    except ApiError as error:
        if 0 < error.code < 500:
            raise
        return {}


@asynccontextmanager
async def _probes(port: int) -> AsyncIterator[list[float]]:
    """Asks for /healthz as kubelet does, but more often; collects the seconds until the answer."""
    latencies: list[float] = []

    async def probe() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            while True:
                began = time.monotonic()
                async with session.get(f"http://127.0.0.1:{port}/healthz") as response:
                    await response.read()
                latencies.append(time.monotonic() - began)
                await asyncio.sleep(PROBE_SECONDS)

    task = asyncio.create_task(probe())
    yield latencies
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
