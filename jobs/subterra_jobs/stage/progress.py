"""Says how far a stage is: on the pod's own port, and as a line in its log now and then."""

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from subterra_api.job_contract.artifacts import Stage
from subterra_api.job_contract.messages import Calls, Progress

log = logging.getLogger("subterra")
LOG_EVERY_SECONDS = 10.0


class ProgressReporter:
    """Keeps the latest figures; safe to call from any thread."""

    def __init__(self, stage: Stage, clock: Callable[[], float] = time.monotonic) -> None:
        self.current = Progress(stage=stage)
        self._clock = clock
        self._started: tuple[float, int] | None = None
        self._logged = float("-inf")

    def update(
        self, done: int, planned: int, unit: str, *, message: str = "", usd: str = "0", tokens: int = 0, calls: Calls | None = None
    ) -> None:
        """Records ``done`` of ``planned`` units; percent and time left follow from the pace so far."""
        now = self._clock()
        if self._started is None:
            self._started = (now, done)
        since, first = self._started
        pace = (done - first) / (now - since) if now > since else 0.0
        self.current = Progress(
            stage=self.current.stage, done=done, planned=planned, unit=unit, message=message, usd=usd, tokens=tokens, calls=calls,
            percent=min(100, 100 * done // planned) if planned else 0,
            eta_seconds=round((planned - done) / pace) if pace > 0 else None,
        )  # fmt: skip
        if now - self._logged >= LOG_EVERY_SECONDS or done == planned:
            self._logged = now
            log.info("%s: %d of %d %s (%d %%) %s", self.current.stage, done, planned, unit, self.current.percent, message)

    def say(self, message: str) -> None:
        """Records what the stage is doing while there are no figures."""
        if message != self.current.message:
            log.info("%s: %s", self.current.stage, message)
        self.current = self.current.model_copy(update={"message": message})

    def serve(self, port: int) -> ThreadingHTTPServer | None:
        """Answers ``GET /progress`` with JSON in a background thread; none when the port is taken: progress decides nothing."""
        reporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path == "/progress"
                body = json.dumps(reporter.current.model_dump(by_alias=True)).encode() if found else b"{}"
                with suppress(ConnectionError):  # whoever asked did not wait
                    self.send_response(200 if found else 404)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Keeps polling out of the log."""

        try:
            server = ThreadingHTTPServer(("", port), Handler)
        except OSError as error:
            log.warning("progress is not served on port %d: %s", port, error)
            return None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server
