"""KubeRay for tests: its CRDs and its operator. ``python -m tests.tools.kuberay`` gets the CRDs, with ``operator`` both.

The operator is built in about four minutes of a core, the CRDs are files of the same Go module.
"""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
from tests import programs

SOURCES = Path(__file__).parent
PACKAGE = "github.com/ray-project/kuberay/ray-operator"
KINDS = ("rayjobs", "rayclusters", "rayservices", "raycronjobs")
"""Plurals of the kinds that the operator watches."""
CRDS = [programs.ModuleCrd(SOURCES, PACKAGE, f"config/crd/bases/ray.io_{kind}.yaml", kind) for kind in KINDS]
HOST = "127.0.0.1"

Response = tuple[int, bytes]


def operator_path(cache: Path) -> Path:
    """Where the operator is, or will be."""
    return programs.path_of(SOURCES, cache)


class Dashboards:
    """The dashboards of all Ray clusters, for which no pod runs: they know what the driver of each one does."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        """Status of the first driver, by the beginning of the head's host name."""

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """What the dashboard of the cluster whose head has that name says of a driver."""
        host, job = url.removeprefix("http://").split(":")[0], url.rsplit("/", 1)[-1]
        status = next((status for name, status in self.jobs.items() if host.startswith(name)), None)
        if status is None:
            return 404, b""
        return 200, json.dumps({"type": "DRIVER", "job_id": job, "status": status, "entrypoint": ""}).encode()


class Heads:
    """The dashboards of heads that run in pods; stands in for the cluster's DNS, which this machine does not ask."""

    def __init__(self, address_of: Callable[[str], str | None]) -> None:
        self._address_of = address_of
        self.answered: Counter[int] = Counter()
        """How often they answered with each status."""

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """The dashboard's own answer; 502 while there is no such head."""
        host = url.removeprefix("http://").split(":")[0]
        status, body = self._ask(url.replace(host, address, 1), headers) if (address := self._address_of(host)) else (502, b"")
        self.answered[status] += 1
        return status, body

    def _ask(self, url: str, headers: Mapping[str, str]) -> Response:
        try:
            answer = httpx.get(url, headers=dict(headers), timeout=10)
        except httpx.HTTPError:
            return 502, b""
        return answer.status_code, answer.content


@contextmanager
def running_operator(
    program: Path, kubeconfig: Path, namespace: str, folder: Path, dashboards: Dashboards | Heads
) -> Iterator[None]:
    """Runs the operator until the end of the block. It asks the ``dashboards`` through a proxy, for want of the cluster's DNS."""
    server = ThreadingHTTPServer((HOST, 0), _handler(dashboards))
    Thread(target=server.serve_forever, daemon=True).start()
    command = [program, "--enable-leader-election=false", f"--watch-namespace={namespace}"]
    command += ["--metrics-addr=0", "--health-probe-bind-address=0", f"--kubeconfig={kubeconfig}"]
    proxy = {"HTTP_PROXY": f"http://{HOST}:{server.server_address[1]}", "NO_PROXY": HOST}
    with (folder / "kuberay.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | proxy, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
        assert process.poll() is None, (folder / "kuberay.log").read_text()[-3000:]
    finally:
        process.terminate()
        process.wait(20)
        server.shutdown()
        server.server_close()


def _handler(dashboards: Dashboards | Heads) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = dashboards.get(self.path, self.headers)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output has the operator's log."""

    return Handler
