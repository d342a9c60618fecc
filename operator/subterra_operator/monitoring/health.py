"""Health and metrics over HTTP."""

from typing import Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from subterra_operator.monitoring.metrics import REGISTRY

SILENCE_SECONDS = 95.0
"""Watch silence after which ``/healthz`` fails, so that kubelet restarts the operator."""


class Liveness(Protocol):
    """The controller's state as the probes need it."""

    @property
    def watch_silence(self) -> float: ...

    @property
    def ready(self) -> bool: ...


def health_app(controller: Liveness) -> web.Application:
    """``/healthz`` (are the watches alive?), ``/readyz`` (is the initial list complete?), ``/metrics``."""

    async def healthz(_: web.Request) -> web.Response:
        if controller.watch_silence > SILENCE_SECONDS:
            text = f"watches are stale: no heartbeat for {controller.watch_silence:.0f} s although the API server responds\n"
            return web.Response(status=503, text=text)
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if controller.ready else web.Response(status=503, text="initial list not complete\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app
