"""KubeRay for tests: its CRDs and its operator. ``python -m tests.tools.kuberay`` gets the CRDs, with ``operator`` both.

The operator is built in about four minutes of a core, the CRDs are files of the same Go module.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests import programs

SOURCES = Path(__file__).parent
PACKAGE = "github.com/ray-project/kuberay/ray-operator"
KINDS = ("rayjobs", "rayclusters", "rayservices", "raycronjobs")
"""Plurals of the kinds that the operator watches."""
CRDS = [programs.ModuleCrd(SOURCES, PACKAGE, f"config/crd/bases/ray.io_{kind}.yaml", kind) for kind in KINDS]
HOST = "127.0.0.1"


def operator_path(cache: Path) -> Path:
    """Where the operator is, or will be."""
    return programs.path_of(SOURCES, cache)


class Dashboards:
    """The dashboards of all Ray clusters, for which no pod runs: they know what the driver of each one does."""

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}
        """Status of the first driver, by the beginning of the head's host name."""

    def status(self, host: str) -> str | None:
        """Status of the first driver of the cluster whose head has that name."""
        return next((status for name, status in self.jobs.items() if host.startswith(name)), None)


@contextmanager
def running_operator(program: Path, kubeconfig: Path, namespace: str, folder: Path) -> Iterator[Dashboards]:
    """Runs the operator until the end of the block. It asks the dashboards through a proxy, since the heads have no address."""
    dashboards = Dashboards()
    server = ThreadingHTTPServer((HOST, 0), _handler(dashboards))
    Thread(target=server.serve_forever, daemon=True).start()
    command = [program, "--enable-leader-election=false", f"--watch-namespace={namespace}"]
    command += ["--metrics-addr=0", "--health-probe-bind-address=0", f"--kubeconfig={kubeconfig}"]
    proxy = {"HTTP_PROXY": f"http://{HOST}:{server.server_address[1]}", "NO_PROXY": HOST}
    with (folder / "kuberay.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | proxy, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield dashboards
        assert process.poll() is None, (folder / "kuberay.log").read_text()[-3000:]
    finally:
        process.terminate()
        process.wait(20)
        server.shutdown()
        server.server_close()


def _handler(dashboards: Dashboards) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host, job = self.path.removeprefix("http://").split(":")[0], self.path.rsplit("/", 1)[-1]
            status = dashboards.status(host)
            body = json.dumps({"type": "DRIVER", "job_id": job, "status": status, "entrypoint": ""}).encode()
            self.send_response(200 if status else 404)
            self.end_headers()
            self.wfile.write(body if status else b"")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test's output has the operator's log."""

    return Handler
