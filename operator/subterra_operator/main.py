"""The operator's process: ``python -m subterra_operator [--settings FILE]``. In a pod, or anywhere with KUBECONFIG set."""

import argparse
import asyncio
import logging
import os
import signal
from pathlib import Path

import kopf
from aiohttp import web

from subterra_operator.client import Api
from subterra_operator.controller import Controller
from subterra_operator.handlers import watch_settings, watches
from subterra_operator.health import application
from subterra_operator.settings import Settings, load


async def operate(settings: Settings, stop: asyncio.Event) -> None:
    """Runs everything until ``stop``; ends with the first part that fails, so that kubelet starts a fresh one."""
    api = Api()
    controller = Controller(settings, api)
    runner = web.AppRunner(application(controller), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=settings.port).start()
    watching = kopf.operator(
        registry=watches(controller), settings=watch_settings(controller), standalone=True, stop_flag=stop,
        clusterwide=not settings.watch_namespaces, namespaces=list(settings.watch_namespaces),
    )  # fmt: skip
    parts = [
        asyncio.create_task(watching, name="watches"),
        asyncio.create_task(controller.run(), name="controller"),
        asyncio.create_task(stop.wait(), name="stop"),
    ]
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in done:  # kopf catches signals too, and then ends without a word
            part.result()
    finally:
        stop.set()
        for part in parts:  # kopf too: it has no state of ours, and its own farewell takes seconds
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
    logging.getLogger("kopf.objects").setLevel(logging.ERROR)  # one line for each event says nothing that we do not
    asyncio.run(_until_signal(load(Path(arguments.settings) if arguments.settings else None)))


async def _until_signal(settings: Settings) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await operate(settings, stop)
