"""Health and metrics over HTTP, served by threads: a busy event loop fails no probe.

kopf's own liveness endpoint is not used: it runs in the event loop, is away whenever kopf starts again, and caches for 10 s.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NoReturn, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from subterra_operator.monitoring.series import REGISTRY

SILENCE_SECONDS = 80.0
"""Watch silence after which ``/healthz`` fails, so that kubelet restarts the operator."""
STUCK_SECONDS = 120.0
"""How long the event loop may be busy with one thing before ``/healthz`` fails."""
PULSE_SECONDS = 1.0
TEXT = "text/plain; charset=utf-8"


class Silence(Protocol):
    """The heartbeat as the probes need it."""

    @property
    def watch_silence(self) -> float: ...


class Readiness(Protocol):
    """The controller as the probes need it."""

    @property
    def ready(self) -> bool: ...


class Health:
    """What the probes report. Read by the server's threads, written by the event loop."""

    def __init__(self, heartbeat: Silence) -> None:
        self._heartbeat = heartbeat
        self._pulse = time.monotonic()
        self.controller: Readiness | None = None
        """The controller of the current life."""

    async def run(self) -> NoReturn:
        """Shows that the event loop goes round, until cancelled."""
        while True:
            self._pulse = time.monotonic()
            await asyncio.sleep(PULSE_SECONDS)

    def report(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body of an answer."""
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY)
        problem = {"/healthz": self._unhealthy, "/readyz": self._unready}.get(path, lambda: None)()
        if path not in ("/healthz", "/readyz"):
            return 404, TEXT, b"not found; there are /healthz, /readyz and /metrics\n"
        return (503, TEXT, f"{problem}\n".encode()) if problem else (200, TEXT, b"ok\n")

    def _unhealthy(self) -> str | None:
        stuck = time.monotonic() - self._pulse
        if stuck > STUCK_SECONDS:
            return f"the event loop has been stuck for {stuck:.0f} s"
        silence = self._heartbeat.watch_silence
        if silence > SILENCE_SECONDS:
            return f"watches are stale: no heartbeat for {silence:.0f} s although the API server responds"
        return None

    def _unready(self) -> str | None:
        return None if self.controller is not None and self.controller.ready else "initial list not complete"


@contextmanager
def serving(health: Health, port: int) -> Iterator[int]:
    """Serves ``/healthz`` (do the watches deliver?), ``/readyz`` (is the cache complete?) and ``/metrics``; yields the port."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            code, media, body = health.report(self.path.partition("?")[0])
            self.send_response(code)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes are not logged."""

    with ThreadingHTTPServer(("", port), Handler, bind_and_activate=False) as server:
        server.daemon_threads = True
        server.socket.close()
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        server.socket = socket.create_server(("", port), family=family, dualstack_ipv6=dual, backlog=16)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True)
        thread.start()
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()
