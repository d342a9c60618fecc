"""The operator's process: ``python -m subterra_operator [--settings FILE]``. In a pod, or anywhere with KUBECONFIG set."""

import argparse
import asyncio
import logging
import os
import signal
from pathlib import Path

from aiohttp import web

from subterra_operator.controller import Controller
from subterra_operator.kube.client import Api
from subterra_operator.monitoring.health import application
from subterra_operator.settings import Settings, load
from subterra_operator.watcher import watch_all


async def operate(settings: Settings, stop: asyncio.Event) -> None:
    """Runs everything until ``stop``; ends with the first part that fails, so that kubelet starts a fresh one."""
    api = Api()
    controller = Controller(settings, api)
    runner = web.AppRunner(application(controller), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=settings.port).start()
    parts = [
        asyncio.create_task(watch_all(controller, api), name="watches"),
        asyncio.create_task(controller.run(), name="controller"),
        asyncio.create_task(stop.wait(), name="stop"),
    ]
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in done:
            part.result()
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        await api.close()
        await runner.cleanup()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="subterra_operator", description=__doc__)
    parser.add_argument("--settings", type=Path, default=os.environ.get("SUBTERRA_SETTINGS"), help="YAML file, see settings.py")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    asyncio.run(_until_signal(load(Path(arguments.settings) if arguments.settings else None)))


async def _until_signal(settings: Settings) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await operate(settings, stop)
