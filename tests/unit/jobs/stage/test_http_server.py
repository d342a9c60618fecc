"""The server of progress and prices."""

import socket
import urllib.request

import pytest

from subterra_jobs.stage.http_server import Page, serve_pages


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_pages_are_served_to_both_families_since_a_pod_may_have_ipv6_alone(host: str) -> None:
    if host == "[::1]" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    server = serve_pages(0, lambda path: Page(path.encode()))
    try:
        with urllib.request.urlopen(f"http://{host}:{server.server_address[1]}/progress", timeout=5) as response:
            assert response.read() == b"/progress"
    finally:
        server.shutdown()
        server.server_close()
