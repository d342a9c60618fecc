"""Serves the price of a vLLM pod beside it: ``/price``, ``/metrics``, ``/healthz``. Run as ``python -m subterra_jobs.exporter``."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from subterra_api.job_contract.environment import EXPORTER_PORT, VLLM_PORT, VLLM_VARIABLE
from subterra_api.job_contract.messages import ExitCode
from subterra_jobs.exporter.meter import Meter
from subterra_jobs.exporter.scrape import UndecidedError, scrape

log = logging.getLogger("subterra")
INTERVAL_SECONDS = 1.0
STALE_SECONDS = 30.0
"""Without a look at vLLM for so long, ``/healthz`` says that this exporter hangs."""


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    usd_per_hour: Decimal
    turns_per_conversation: float
    model_digest: str
    vllm_url: str
    port: int

    @classmethod
    def read(cls) -> "Settings":
        """From the environment. Raises ValueError naming what is wrong."""
        usd = os.environ.get("SUBTERRA_USD_PER_HOUR", "")
        turns = os.environ.get("SUBTERRA_TURNS_PER_CONVERSATION", "")
        try:
            usd_per_hour = Decimal(usd)
        except InvalidOperation:
            raise ValueError(f"SUBTERRA_USD_PER_HOUR is {usd!r}; set dollars such as 2.50") from None
        if not usd_per_hour.is_finite() or usd_per_hour < 0:
            raise ValueError(f"SUBTERRA_USD_PER_HOUR is {usd!r}; set dollars such as 2.50")
        try:
            turns_per_conversation = float(turns)
        except ValueError:
            turns_per_conversation = 0.0
        if not 0 < turns_per_conversation < float("inf"):
            raise ValueError(f"SUBTERRA_TURNS_PER_CONVERSATION is {turns!r}; set a number above 0")
        return cls(
            usd_per_hour, turns_per_conversation, os.environ.get("SUBTERRA_MODEL_DIGEST", ""),
            os.environ.get(VLLM_VARIABLE, f"http://127.0.0.1:{VLLM_PORT}"),
            int(os.environ.get("SUBTERRA_EXPORTER_PORT", EXPORTER_PORT)),
        )  # fmt: skip


class Exporter:
    """The meter with its lock: the loop writes, requests read."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._meter = Meter(settings.usd_per_hour, settings.turns_per_conversation)
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def look(self) -> None:
        """One reading. A vLLM that is slow to answer leaves the interval open."""
        try:
            reading = scrape(self._settings.vllm_url)
        except UndecidedError:
            self._looked = time.monotonic()
            return
        with self._lock:
            self._looked = time.monotonic()
            self._meter.observe(self._looked, reading)

    def run(self) -> None:
        """Looks every second, for ever."""
        while True:
            started = time.monotonic()
            try:
                self.look()
            except Exception:
                log.exception("a reading failed")
            time.sleep(max(0.0, INTERVAL_SECONDS - (time.monotonic() - started)))

    def price(self) -> bytes:
        """The price as JSON."""
        with self._lock:
            return self._meter.price().model_dump_json(by_alias=True, exclude_none=True).encode()

    @property
    def healthy(self) -> bool:
        """Whether the loop is alive; says nothing about vLLM, which has a probe of its own."""
        return time.monotonic() - self._looked < STALE_SECONDS

    def collect(self) -> Iterator[Metric]:
        """What Prometheus gets."""
        with self._lock:
            meter = self._meter
            label, digest = ["model_digest"], [self._settings.model_digest]
            sums = {
                "subterra_serving_usd": ("Dollars of hardware time.", float(meter.usd)),
                "subterra_serving_busy_seconds": ("Seconds in which requests were being executed.", meter.busy_seconds),
                "subterra_serving_idle_seconds": ("Seconds in which none was.", meter.idle_seconds),
                "subterra_conversations": ("Completed requests over turns per conversation.", meter.conversations),
            }
            tokens = {"prompt": meter.prompt_tokens, "generation": meter.generation_tokens}
            price = meter.price().usd_per_conversation
        for name, (text, value) in sums.items():
            family = CounterMetricFamily(name, text, labels=label)
            family.add_metric(digest, value)
            yield family
        counted = CounterMetricFamily("subterra_tokens", "Tokens.", labels=[*label, "kind"])
        for kind, value in tokens.items():
            counted.add_metric([*digest, kind], value)
        yield counted
        gauge = GaugeMetricFamily("subterra_usd_per_conversation", "Busy time only; absent before the first.", labels=label)
        if price is not None:
            gauge.add_metric(digest, float(price))
        yield gauge


def page(exporter: Exporter, path: str) -> tuple[int, str, bytes]:
    """Status, content type and body of one of the exporter's pages."""
    if path == "/price":
        return 200, "application/json", exporter.price()
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, generate_latest(exporter.registry)
    if path == "/healthz":
        return (200, "text/plain", b"ok\n") if exporter.healthy else (503, "text/plain", b"hangs\n")
    return 404, "text/plain", b"not found\n"


def serve(exporter: Exporter, port: int) -> ThreadingHTTPServer:
    """Answers requests in a background thread."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            status, kind, body = page(exporter, self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keeps scrapes out of the log."""

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Runs until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # There is nothing to save, and a pod that waits for its sidecar waits for nothing.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        settings = Settings.read()
    except ValueError as error:
        log.error("%s", error)
        sys.exit(ExitCode.INVALID_INPUT)
    exporter = Exporter(settings)
    serve(exporter, settings.port)
    exporter.run()
