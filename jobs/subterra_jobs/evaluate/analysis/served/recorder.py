"""Copies chat requests with their replies to files, as an ASGI middleware of vLLM: `--middleware subterra_recorder.Recorder`.

Needs only Python, because images with vLLM have nothing of ours: an init container copies this file to a folder that vLLM's
container mounts (`python -m subterra_jobs.evaluate.analysis.served.recorder FOLDER`).

Serving comes first. Messages are passed on before they are copied, a failure here fails no request, files are written by a thread,
and everything is bounded: requests per hour, bytes of one request, bytes and files that wait. What is dropped is counted.
"""

import contextlib
import json
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MODULE = "subterra_recorder"
"""Name of the copied file."""
FOLDER_VARIABLE, SAMPLE_VARIABLE, PER_HOUR_VARIABLE = "SUBTERRA_SERVED_DIR", "SUBTERRA_RECORD_SAMPLE", "SUBTERRA_RECORD_PER_HOUR"
HEADER = b"x-subterra-record"
"""A client says `yes` or `no` with it."""
ROUTE = "/v1/chat/completions"
INCOMING, COUNTS_FILE = "incoming", "recorder.json"
MAX_BYTES = 256 * 1024
"""Largest request, and largest response, that is copied."""
MAX_WAITING_FILES, MAX_WAITING_BYTES = 500, 32 * 1024 * 1024
"""Most that waits for the monitor."""
QUEUE_SIZE = 50
BURST_PART = 60
"""The part of an hour's requests that may be copied at once."""
FLUSH_SECONDS = 5.0


class Allowance:
    """So many per hour, evenly spread: after a burst of a minute's worth, one at a time."""

    def __init__(self, per_hour: float, clock: Callable[[], float]) -> None:
        self._rate, self._clock = per_hour / 3600, clock
        self._most = max(1.0, per_hour / BURST_PART)
        self._left, self._at = self._most, clock()

    def take(self) -> bool:
        """Whether there is one left, which is then taken."""
        now = self._clock()
        self._left, self._at = min(self._most, self._left + (now - self._at) * self._rate), now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Copy:
    """The bytes of one request and of its response."""

    def __init__(self) -> None:
        self.request, self.response = bytearray(), bytearray()
        self.status, self.done, self.too_large = 0, False, False

    def received(self, message: Message) -> None:
        """Adds a part of the request."""
        if message.get("type") == "http.request":
            self._add(self.request, message.get("body", b""))

    def sent(self, message: Message) -> None:
        """Adds a part of the response."""
        if message.get("type") == "http.response.start":
            self.status = int(message["status"])
        elif message.get("type") == "http.response.body":
            self._add(self.response, message.get("body", b""))
            self.done = not message.get("more_body", False)

    def _add(self, to: bytearray, part: bytes) -> None:
        if self.too_large or len(to) + len(part) > MAX_BYTES:
            self.too_large = True
            self.request, self.response = bytearray(), bytearray()
        else:
            to += part


class Writer:
    """Writes copies to files in a thread of its own, and the counts of what was seen, recorded and dropped."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0
        self._queue: queue.Queue[Copy] = queue.Queue(QUEUE_SIZE)
        self.counts = {"seen": 0, "recorded": 0, "rate": 0, "size": 0, "queue": 0, "full": 0, "error": 0}
        self._written: dict[str, int] = {}
        threading.Thread(target=self._run, name="subterra-recorder", daemon=True).start()

    def offer(self, copy: Copy) -> None:
        """Takes a copy if it can be written soon; never waits."""
        if copy.too_large:
            self.counts["size"] += 1
        elif copy.done and copy.status == 200:
            try:
                self._queue.put_nowait(copy)
            except queue.Full:
                self.counts["queue"] += 1

    def _run(self) -> None:
        while True:
            with contextlib.suppress(queue.Empty):
                self._write(self._queue.get(timeout=FLUSH_SECONDS))
            with contextlib.suppress(Exception):
                self._flush()

    def _write(self, copy: Copy) -> None:
        try:
            incoming = self._folder / INCOMING
            incoming.mkdir(parents=True, exist_ok=True)
            sizes = [entry.stat().st_size for entry in os.scandir(incoming)]
            if len(sizes) >= MAX_WAITING_FILES or sum(sizes) >= MAX_WAITING_BYTES:
                self.counts["full"] += 1
                return
            parts = {"request": copy.request, "response": copy.response}
            content = {"at": time.time()} | {name: part.decode("utf-8", "replace") for name, part in parts.items()}
            self._number += 1
            self._replace(incoming / f"{time.time_ns()}-{self._number}.json", content)
            self.counts["recorded"] += 1
        except Exception:  # a full disk, a folder that is gone: serving goes on
            self.counts["error"] += 1

    def _flush(self) -> None:
        if self.counts != self._written:
            self._folder.mkdir(parents=True, exist_ok=True)
            current = dict(self.counts)
            self._replace(self._folder / COUNTS_FILE, current)
            self._written = current

    def _replace(self, file: Path, content: object) -> None:
        unfinished = self._folder / f".{file.name}"
        unfinished.write_text(json.dumps(content))
        unfinished.replace(file)


class Recorder:
    """The middleware. Requests that are not sampled go straight through."""

    def __init__(self, app: App, writer: Writer | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._writer = writer or Writer(Path(os.environ[FOLDER_VARIABLE]))
        self._all = os.environ.get(SAMPLE_VARIABLE, "OptIn") == "All"
        self._allowance = Allowance(float(os.environ.get(PER_HOUR_VARIABLE, "600")), clock)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handles one request or connection."""
        copy = self._begin(scope)
        if copy is None:
            await self._app(scope, receive, send)
            return

        async def listen() -> Message:
            message = await receive()
            with contextlib.suppress(Exception):
                copy.received(message)
            return message

        async def speak(message: Message) -> None:
            await send(message)
            with contextlib.suppress(Exception):
                copy.sent(message)

        await self._app(scope, listen, speak)
        with contextlib.suppress(Exception):
            self._writer.offer(copy)

    def _begin(self, scope: Message) -> Copy | None:
        """A copy to fill; `None` for what is not sampled."""
        try:
            if scope.get("type") != "http" or scope.get("method") != "POST" or not scope.get("path", "").endswith(ROUTE):
                return None
            word = dict(scope.get("headers", ())).get(HEADER, b"").strip().lower()
            if word == b"no" or (word != b"yes" and not self._all):
                return None
            self._writer.counts["seen"] += 1
            if self._allowance.take():
                return Copy()
            self._writer.counts["rate"] += 1
        except Exception:  # whatever is wrong here, the request is served
            return None
        return None


if __name__ == "__main__":
    shutil.copyfile(__file__, Path(sys.argv[1], f"{MODULE}.py"))
