"""The operator process: ``python -m subterra_operator [--settings FILE]``, in a pod or anywhere with KUBECONFIG set."""

import argparse
import asyncio
import logging
import os
import signal
from pathlib import Path

from aiohttp import web

from subterra_operator.controller import Controller
from subterra_operator.kube.api_client import KubernetesApi
from subterra_operator.kube.leader_lease import LeaderLease
from subterra_operator.monitoring import metrics
from subterra_operator.monitoring.health import health_app
from subterra_operator.settings import Settings, load_settings
from subterra_operator.watcher import watch_all


async def run_operator(settings: Settings, stop: asyncio.Event) -> None:
    """Runs the operator until ``stop`` is set or a part fails; raises that failure, so that kubelet restarts the process."""
    lease_api = KubernetesApi()
    lease = LeaderLease(lease_api, settings.lease, settings.namespace)
    metrics.LEADER.set_function(lambda: float(lease.holds))
    api = KubernetesApi(fence=lambda: lease.holds or _refuse())
    controller = Controller(settings, api, lease)
    runner = web.AppRunner(health_app(controller), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=settings.port).start()
    tasks = [
        asyncio.create_task(watch_all(controller, api), name="watches"),
        asyncio.create_task(controller.run(), name="controller"),
        asyncio.create_task(stop.wait(), name="stop"),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await lease.release()
        await api.close()
        await lease_api.close()
        await runner.cleanup()


def _refuse() -> bool:
    """Counts a write that is not sent."""
    metrics.REFUSED_WRITES.inc()
    return False


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="subterra_operator", description=__doc__)
    parser.add_argument(
        "--settings",
        type=Path,
        default=os.environ.get("SUBTERRA_SETTINGS"),
        help="YAML file with the operator's settings (default: built-in defaults)",
    )
    parser.add_argument("--verbose", action="store_true", help="log at level DEBUG")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    asyncio.run(_until_signal(load_settings(Path(arguments.settings) if arguments.settings else None)))


async def _until_signal(settings: Settings) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run_operator(settings, stop)
