"""Starts vLLM's API server as its node can: quick, for IPv4 and IPv6, and so that its pod can go without a failed request.

Its source is the command of a vLLM container, as ``python3 -c SOURCE --middleware __main__.Drainable ARGUMENTS``.
"""

import runpy
import socket
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

IDLE_PATH = "/subterra/idle"
"""Answers with the number of seconds for which there has been no request."""
BY_PROCESSOR = "by-processor"
"""As the value of ``--dtype``: `processor_dtype`."""

ANY_IPV4 = "0.0.0.0"  # noqa: S104 - the pod's own addresses
"""As the value of ``--host``: `any_address`."""


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


def processor_dtype() -> str:
    """The precision that is quick here: bfloat16 on a GPU and on processors that multiply in it, float32 on others.

    Those convert every weight for every token: SmolLM2-135M took three times as long in bfloat16 on an AMD EPYC with AVX2.
    """
    import torch

    able = torch.cpu.get_capabilities()
    # Counting GPUs leaves CUDA as it is, which vLLM's processes have to find untouched.
    quick = torch.cuda.device_count() > 0 or any(able.get(name) for name in ("amx_bf16", "avx512_bf16"))
    return "bfloat16" if quick else "float32"


def any_address() -> str:
    """`::` where the kernel lets clients of both families in by it, as pods without IPv4 need it; else `ANY_IPV4`."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
            return ANY_IPV4 if probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) else "::"
    except OSError:
        return ANY_IPV4


if __name__ == "__main__":
    here = {BY_PROCESSOR: processor_dtype, ANY_IPV4: any_address}
    sys.argv = [here[argument]() if argument in here else argument for argument in sys.argv]
    # Not in this module's name space: vLLM imports the middleware from `__main__`, which stays this program.
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
