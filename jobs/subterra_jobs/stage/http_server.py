"""A small HTTP server in a background thread, for progress and prices."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REQUEST_TIMEOUT_SECONDS = 5
_POLL_SECONDS = 0.1
"""How long `shutdown` may take: a stage that is done ends at once."""


@dataclass(frozen=True)
class Page:
    """Response to a GET request."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"


class _AnyFamilyServer(ThreadingHTTPServer):
    """Lets clients in by IPv4 and, where there is IPv6, by that too: pods may have no other address."""

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def serve_pages(port: int, page: Callable[[str], Page]) -> ThreadingHTTPServer:
    """Answers GET requests with `page(path)` until the server is shut down. Raises OSError when the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_SECONDS

        def do_GET(self) -> None:
            response = page(self.path)
            with suppress(ConnectionError):  # the client may have given up
                self.send_response(response.status)
                self.send_header("Content-Type", response.content_type)
                self.send_header("Content-Length", str(len(response.body)))
                self.end_headers()
                self.wfile.write(response.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keeps polling out of the log."""

    server = _AnyFamilyServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": _POLL_SECONDS}, daemon=True).start()
    return server
