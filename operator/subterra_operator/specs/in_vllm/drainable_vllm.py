"""Starts vLLM's API server with a middleware, so that its pod can go without a failed request.

Its source is the command of a vLLM container, as ``python3 -c SOURCE --middleware __main__.Drainable ARGUMENTS``.
"""

import runpy
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

IDLE_PATH = "/subterra/idle"
"""Answers with the number of seconds for which there has been no request."""


class Drainable:
    """Middleware that ends each connection with its response, and knows for how long there has been no request.

    A client that keeps its connections open would stay with this server wherever traffic moves, and would lose the request that it
    sends while the server closes an idle connection. A response that says `Connection: close` leaves no room for either.
    """

    def __init__(self, app: App) -> None:
        self._app, self._running, self._last = app, 0, time.monotonic()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handles one request."""

        async def close(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == IDLE_PATH:
            await close({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"%.1f" % self._idle_seconds()})
        elif scope["method"] != "POST":  # probes and scrapes are no traffic
            await self._app(scope, receive, close)
        else:
            await self._counted(scope, receive, close)

    async def _counted(self, scope: Message, receive: Receive, send: Send) -> None:
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1
            self._last = time.monotonic()

    def _idle_seconds(self) -> float:
        return 0.0 if self._running else time.monotonic() - self._last


if __name__ == "__main__":
    # Not in this module's name space: vLLM imports the middleware from `__main__`, which stays this program.
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
