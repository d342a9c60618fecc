"""Health and metrics over HTTP."""

from typing import Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from subterra_operator.monitoring.metrics import REGISTRY

SILENCE_SECONDS = 95.0
"""So long without a heartbeat through the watches, and the operator is of no use: kubelet restarts it."""


class Liveness(Protocol):
    """What the probes ask of the controller."""

    @property
    def silence(self) -> float: ...

    @property
    def ready(self) -> bool: ...


def application(controller: Liveness) -> web.Application:
    """``/healthz`` (are the watches alive), ``/readyz`` (was everything listed once), ``/metrics``."""

    async def healthz(_: web.Request) -> web.Response:
        if controller.silence > SILENCE_SECONDS:
            text = f"the API server answers, but no heartbeat came back through the watches for {controller.silence:.0f} s\n"
            return web.Response(status=503, text=text)
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if controller.ready else web.Response(status=503, text="the first list is under way\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app
