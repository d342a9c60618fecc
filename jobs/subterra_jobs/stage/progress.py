"""Progress of a stage: served on the pod's progress port and logged now and then."""

import json
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import ThreadingHTTPServer

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import Calls, Progress
from subterra_jobs.stage.http_server import Page, serve_pages

log = logging.getLogger("subterra")
LOG_EVERY_SECONDS = 10.0
MIN_PACE_SECONDS = 30.0
"""Least time over which the pace is measured."""
MIN_PACE_PERCENT = 1
"""Share of the work below which a pace says little: of many units worked on at once, the first to be done are no sample."""


@dataclass(frozen=True)
class Spending:
    """Progress of a stage that pays a provider."""

    usd: str = "0"
    tokens: int = 0
    calls: Calls | None = None


FREE = Spending()


class Pace:
    """How quickly units are done, over the later half of the time so far.

    What is found done after a restart is counted within a moment, which must not make the rest look quick.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._samples: deque[tuple[float, int]] = deque()

    def seconds_left(self, now: float, done: int, planned: int) -> int | None:
        """Estimated seconds for the rest; `None` while too little was done to tell. Called with every count of units done."""
        since = self._since = now if self._since is None else self._since
        self._samples.append((now, done))
        begin = now - max(MIN_PACE_SECONDS, (now - since) / 2)
        while len(self._samples) > 1 and self._samples[1][0] <= begin:
            self._samples.popleft()
        then, before = self._samples[0]
        counted = done - before
        if now <= then or counted <= 0 or 100 * counted < MIN_PACE_PERCENT * planned:
            return None
        return round((planned - done) * (now - then) / counted)


class ProgressReporter:
    """Keeps the latest progress; safe to call from any thread."""

    def __init__(self, stage: Stage, clock: Callable[[], float] = time.monotonic) -> None:
        self.current = Progress(stage=stage)
        self._clock = clock
        self._pace = Pace()
        self._logged_at = float("-inf")

    def update(self, done: int, planned: int, unit: str, *, message: str = "", spending: Spending = FREE) -> None:
        """Records `done` of `planned` units; percentage and remaining time follow from them."""
        now = self._clock()
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
            eta_seconds=self._pace.seconds_left(now, done, planned),
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
