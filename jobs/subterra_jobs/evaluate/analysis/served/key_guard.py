"""Demands the agent's API key, as an ASGI middleware of vLLM: `--middleware subterra_key_guard.Guard`.

vLLM's own check covers the paths below `/v1` and a few others, and leaves some open that reply as well, such as `/invocations`.
This one covers all but `OPEN`. Needs only Python, because images with vLLM have nothing of ours: an init container checks the key
and copies this file to a folder that vLLM's container mounts (`python -m subterra_jobs.evaluate.analysis.served.key_guard FOLDER
NAME`, with the Secret's name for its message).
"""

import hashlib
import hmac
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

MODULE = "subterra_key_guard"
"""Name of the copied file."""
KEY_VARIABLE = "VLLM_API_KEY"
"""The variable in which vLLM looks for its key."""
OPEN = ("/health", "/metrics", "/subterra/idle")
"""What kubelet, Prometheus and the pod's own hooks ask for, none of which has the key. The last is for a hook that ends a pod."""
LONGEST = 4096
REFUSED = "no API key, or a wrong one; send the agent's as: Authorization: Bearer KEY"
_INVALID_INPUT = 10


class Guard:
    """The middleware. Raises KeyError or ValueError without a usable key, so that no server starts that is open to all."""

    def __init__(self, app: App) -> None:
        key = os.environ[KEY_VARIABLE]
        if problem := key_problem(key):
            raise ValueError(f"{KEY_VARIABLE} {problem}")
        self._app, self._digest = app, _digest(key.encode())

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handles one request or connection."""
        if scope["type"] not in ("http", "websocket") or scope.get("path") in OPEN:
            await self._app(scope, receive, send)
        elif self._knows(key := _key_of(scope)):
            await self._app({**scope, "headers": _as_bearer(scope, key)}, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": REFUSED})
        else:
            await _refuse(send)

    def _knows(self, key: bytes) -> bool:
        return hmac.compare_digest(_digest(key), self._digest)


def key_problem(key: str) -> str | None:
    """What is wrong with a key, or `None`: it is sent in a header, and compared byte by byte."""
    if not key:
        return "is empty"
    if len(key) > LONGEST:
        return f"has {len(key):,} characters; the most are {LONGEST:,}"
    if key != key.strip():
        return "begins or ends with a space or a line break, which no client sends; write it without, such as with printf"
    if not (key.isascii() and key.isprintable() and " " not in key):
        return "has spaces or characters that no header can have; use printable ASCII"
    return None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _key_of(scope: Message) -> bytes:
    """The key that a request brings; empty without one. Anthropic's clients send it in a header of its own."""
    headers = {bytes(name).lower(): bytes(value) for name, value in scope.get("headers", ())}
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")


def _as_bearer(scope: Message, key: bytes) -> list[tuple[bytes, bytes]]:
    """The request's headers with the key where vLLM looks for it."""
    others = [(name, value) for name, value in scope.get("headers", ()) if bytes(name).lower() != b"authorization"]
    return [*others, (b"authorization", b"Bearer " + key)]


async def _refuse(send: Send) -> None:
    """Answers 401 with a body that clients of OpenAI's and of Anthropic's API show to people."""
    body = json.dumps({"type": "error", "error": {"type": "authentication_error", "message": REFUSED}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main(folder: str, secret: str) -> int:
    """Checks the key and puts this file into ``folder``; returns an exit code."""
    if problem := key_problem(os.environ.get(KEY_VARIABLE, "")):
        sys.stderr.write(f"the API key in Secret {secret} {problem}\n")
        return _INVALID_INPUT
    shutil.copyfile(__file__, Path(folder, f"{MODULE}.py"))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
