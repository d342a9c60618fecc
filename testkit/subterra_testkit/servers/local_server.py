"""HTTP servers of tests on this machine: a free port, a handler that answers, and the thread that serves."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class QuietHandler(BaseHTTPRequestHandler):
    """Logs nothing."""

    def body(self) -> bytes:
        """The body of the request."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, content: bytes, media_type: str = "application/json") -> None:
        """Sends the whole response."""
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not printed between tests' results."""


class ManyClientsServer(ThreadingHTTPServer):
    """Takes the connections of a whole evaluation at once: with the default of five, clients wait a second and more for others."""

    request_queue_size = 256


@contextmanager
def in_background(server: ThreadingHTTPServer) -> Iterator[str]:
    """Serves until the end of the block; yields the address."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
