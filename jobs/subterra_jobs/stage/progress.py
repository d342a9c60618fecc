"""Progress of a stage: served on the pod's progress port and logged now and then."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import ThreadingHTTPServer

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import Calls, Progress
from subterra_jobs.stage.http_server import Page, serve_pages

log = logging.getLogger("subterra")
LOG_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Spending:
    """Progress of a stage that pays a provider."""

    usd: str = "0"
    tokens: int = 0
    calls: Calls | None = None


FREE = Spending()


class ProgressReporter:
    """Keeps the latest progress; safe to call from any thread."""

    def __init__(self, stage: Stage, clock: Callable[[], float] = time.monotonic) -> None:
        self.current = Progress(stage=stage)
        self._clock = clock
        self._started: tuple[float, int] | None = None
        self._logged_at = float("-inf")

    def update(self, done: int, planned: int, unit: str, *, message: str = "", spending: Spending = FREE) -> None:
        """Records `done` of `planned` units; percentage and remaining time follow from the pace so far."""
        now = self._clock()
        if self._started is None:
            self._started = (now, done)
        since, first = self._started
        pace = (done - first) / (now - since) if now > since else 0.0
        self.current = Progress(
            stage=self.current.stage,
            done=done,
            planned=planned,
            unit=unit,
            message=message,
            usd=spending.usd,
            tokens=spending.tokens,
            calls=spending.calls,
            percent=min(100, 100 * done // planned) if planned else 0,
            eta_seconds=round((planned - done) / pace) if pace > 0 else None,
        )
        if now - self._logged_at >= LOG_EVERY_SECONDS or done == planned:
            self._logged_at = now
            log.info("%s: %d of %d %s (%d %%) %s", self.current.stage, done, planned, unit, self.current.percent, message)

    def set_message(self, message: str) -> None:
        """Records what the stage is doing while it has nothing to count."""
        if message != self.current.message:
            log.info("%s: %s", self.current.stage, message)
        self.current = self.current.model_copy(update={"message": message})

    def serve(self, port: int) -> ThreadingHTTPServer | None:
        """Serves `GET /progress` as JSON in a background thread; `None` when the port is taken, since nothing depends on it."""
        try:
            return serve_pages(port, self._page)
        except OSError as error:
            log.warning("progress is not served on port %d: %s", port, error)
            return None

    def _page(self, path: str) -> Page:
        if path != "/progress":
            return Page(b"{}", 404)
        return Page(json.dumps(self.current.model_dump(by_alias=True)).encode())
