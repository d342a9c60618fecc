"""Serves the page of `subterra edit` on this machine alone, and tells open pages when there is a newer one."""

import errno
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from subterra_cli.errors import CommandError
from subterra_cli.output.preview.preview_page import PreviewPage

HOST = "127.0.0.1"
_KEEP_ALIVE_SECONDS = 15.0
"""An open page gets a line at least as often, so that the server notices when it was closed."""


class PreviewServer:
    """Answers ``/`` with the newest page, and ``/saves`` with a stream of versions. Port 0 is any free one."""

    def __init__(self, port: int) -> None:
        self._page: PreviewPage | None = None
        self._newer = threading.Condition()
        try:
            self._server = ThreadingHTTPServer((HOST, port), _handler(self))
        except OSError as error:
            raise CommandError(_why_not(port, error)) from None
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    def publish(self, page: PreviewPage) -> None:
        """Replaces the page. Open ones show it if its version is another one."""
        with self._newer:
            self._page = page
            self._newer.notify_all()

    def page(self) -> PreviewPage:
        """The newest page; waits for the first one."""
        with self._newer:
            self._newer.wait_for(lambda: self._page is not None)
            assert self._page is not None
            return self._page

    def newer_than(self, version: str, seconds: float) -> PreviewPage:
        """A page of another version, or the same one after `seconds`."""
        with self._newer:
            self._newer.wait_for(lambda: self._page is not None and self._page.version != version, seconds)
        return self.page()

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()


def _why_not(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {HOST} is in use; pass another one with --port, or --port 0 for any free one"
    return f"port {port} of {HOST} cannot be used: {error.strerror}; pass another one with --port"


def _handler(server: PreviewServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A web page elsewhere could have its own name point to this address, and read what the author writes.
            if self.headers.get("Host") not in (f"{HOST}:{server.port}", f"localhost:{server.port}"):
                self.send_error(403, "this page is for this machine alone")
            elif self.path == "/saves":
                self._versions()
            elif self.path == "/":
                self._send(server.page().text.encode())
            else:
                self.send_error(404)

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def _versions(self) -> None:
            """One event for each new version, until the page is closed."""
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            sent = ""
            while True:
                version = server.newer_than(sent, _KEEP_ALIVE_SECONDS).version
                self.wfile.write(f"data: {version}\n\n".encode() if version != sent else b": waiting\n\n")
                sent = version

        def handle(self) -> None:
            with suppress(ConnectionError):  # the page was closed
                super().handle()

        def log_message(self, format: str, *args: Any) -> None:
            """Keeps requests out of the terminal."""

    return Handler
