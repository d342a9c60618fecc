"""Serves the price of a vLLM pod next to it: `/price`, `/metrics`, `/healthz`. Run as `python -m subterra_jobs.exporter`."""

import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.exporter.environment import ExporterEnvironment
from subterra_jobs.exporter.exported_metrics import families
from subterra_jobs.exporter.meter import ServingMeter
from subterra_jobs.exporter.monitor_files import read_monitor_files, short_enough
from subterra_jobs.exporter.scrape import ScrapeTimeoutError, scrape
from subterra_jobs.stage.http_server import Page, serve_pages

log = logging.getLogger("subterra")
INTERVAL_SECONDS = 1.0
"""Mean interval. Each varies by up to half of it, so that no traffic in step with the readings is missed or counted twice."""
STALE_SECONDS = 30.0
"""Without a finished scrape for this long, `/healthz` reports a failure."""


class Exporter:
    """The meter with its lock: one loop writes, requests read."""

    def __init__(self, environment: ExporterEnvironment) -> None:
        self._environment = environment
        self._meter = ServingMeter(environment.usd_per_hour, environment.turns_per_conversation)
        self._lock = threading.Lock()
        self._scraped_at = time.monotonic()
        self._vllm_up = False
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def scrape(self) -> None:
        """Takes one reading. If vLLM is slow to answer, the interval stays open until the next one."""
        try:
            reading = scrape(self._environment.vllm_url)
        except ScrapeTimeoutError:
            self._scraped_at = time.monotonic()
            return
        with self._lock:
            self._scraped_at = time.monotonic()
            self._vllm_up = reading is not None
            self._meter.observe(self._scraped_at, reading)

    def run(self) -> None:
        """Takes a reading every second on average; never returns."""
        while True:
            started = time.monotonic()
            try:
                self.scrape()
            except Exception:
                log.exception("a scrape failed")
            interval = INTERVAL_SECONDS * random.uniform(0.5, 1.5)
            time.sleep(max(0.0, interval - (time.monotonic() - started)))

    def page(self, path: str) -> Page:
        """One of the exporter's pages."""
        path = path.partition("?")[0]
        if path == "/price":
            with self._lock:
                price = self._meter.price()
            if files := read_monitor_files(self._environment.served):
                price = price.model_copy(update={"sample": short_enough(files.state.sample)})
            return Page(price.model_dump_json(by_alias=True, exclude_none=True).encode())
        if path == "/metrics":
            return Page(generate_latest(self.registry), content_type=CONTENT_TYPE_LATEST)
        if path != "/healthz":
            return Page(b"not found\n", 404, "text/plain")
        if self.healthy:
            return Page(b"ok\n", content_type="text/plain")
        return Page(f"no finished scrape of vLLM for {STALE_SECONDS:.0f} s\n".encode(), 503, "text/plain")

    @property
    def healthy(self) -> bool:
        """True while the loop runs. Independent of vLLM, which has its own probe."""
        return time.monotonic() - self._scraped_at < STALE_SECONDS

    def collect(self) -> Iterator[Metric]:
        """Metrics for Prometheus."""
        with self._lock:
            work, vllm_up = self._meter.work, self._vllm_up
        served = read_monitor_files(self._environment.served)
        yield from families(work, self._environment.usd_per_hour, self._environment.model_digest, served, vllm_up=vllm_up)


def main() -> None:
    """Runs until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # Exits at once: there is nothing to save, and a pod waits for its sidecar.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        environment = ExporterEnvironment.parse(os.environ)
    except InvalidInputError as error:
        log.error("%s", error)
        sys.exit(error.code)
    exporter = Exporter(environment)
    serve_pages(environment.port, exporter.page)
    exporter.run()
