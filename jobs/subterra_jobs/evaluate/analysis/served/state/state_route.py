"""Adds `POST /v1/conversation/state` to vLLM, as an ASGI middleware: `--middleware subterra_state.StateRoute`.

It passes the request's body to the reader of states next to vLLM, by a Unix socket, and reads nothing itself. Needs only Python,
because images with vLLM have nothing of ours: an init container copies this file to a folder that vLLM's container mounts
(`python -m subterra_jobs.evaluate.analysis.served.state.state_route FOLDER`).

Serving comes first: other requests go straight through, few of these wait, none for long, and a reader that fails is an answer.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MODULE = "subterra_state"
"""Name of the copied file."""
SOCKET_VARIABLE = "SUBTERRA_STATE_SOCKET"
ROUTE = "/v1/conversation/state"
MAX_BYTES = 256 * 1024
"""Largest request."""
MAX_REQUESTS = 32
"""Requests at once. The reader takes fewer, so this bounds what their bodies hold."""
LIMIT_SECONDS = 3.0
"""How long the reader may take. It gives up a second earlier itself, and says so."""
UNKNOWN: dict[str, Any] = {"object": "conversation.state", "node": None, "outcome": None, "ended": None, "variables": {}}


class StateRoute:
    """The middleware."""

    def __init__(self, app: App, socket: str | None = None) -> None:
        self._app, self._socket, self._running = app, socket or os.environ[SOCKET_VARIABLE], 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handles one request or connection."""
        if scope["type"] != "http" or scope.get("path") != ROUTE:
            await self._app(scope, receive, send)
            return
        status, content = await self._answer(scope.get("method", ""), receive)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, method: str, receive: Receive) -> tuple[int, bytes]:
        if method != "POST":
            return _error(405, f"{ROUTE} takes POST")
        if self._running >= MAX_REQUESTS:
            return _unknown("Busy", f"{MAX_REQUESTS} other requests wait; ask again later")
        self._running += 1
        try:
            body = await _body(receive)
            if body is None:
                return _error(413, f"the request has more than {MAX_BYTES:,} bytes")
            return await asyncio.wait_for(self._ask(body), LIMIT_SECONDS)
        except TimeoutError:
            return _unknown("Busy", f"the reader of states did not answer within {LIMIT_SECONDS:g} s; ask again later")
        except (OSError, ValueError):
            return _unknown("NotReady", "the reader of states does not run; see the container state of this pod")
        finally:
            self._running -= 1

    async def _ask(self, body: bytes) -> tuple[int, bytes]:
        """The reader's answer. Raises OSError or ValueError if it gives none."""
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            writer.write(body)
            writer.write_eof()
            status, _, content = (await reader.read()).partition(b"\n")
            return int(status), content
        finally:
            writer.close()


async def _body(receive: Receive) -> bytes | None:
    """The request's body; `None` if it is too large."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BYTES:
            return None
        more = message.get("more_body", False)
    return bytes(body)


def _unknown(reason: str, text: str) -> tuple[int, bytes]:
    return 200, json.dumps({**UNKNOWN, "reason": reason, "message": text}).encode()


def _error(status: int, text: str) -> tuple[int, bytes]:
    return status, json.dumps({"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}).encode()


if __name__ == "__main__":
    shutil.copyfile(__file__, Path(sys.argv[1], f"{MODULE}.py"))
