"""A serving pod that has to go: the hook that kubelet runs first."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec
from subterra_operator.settings import Settings
from subterra_operator.specs.deployment import ServingTarget, deployment
from subterra_operator.specs.vllm_container import Model, drain_command
from subterra_testkit.cluster import kubernetes_objects as make


class Metrics(BaseHTTPRequestHandler):
    """vLLM's page, with one request fewer in flight each time that it is asked for."""

    running = 3
    asked = 0

    def do_GET(self) -> None:
        left, kind = max(0, self.running - type(self).asked), type(self)
        kind.asked += 1
        self.send_response(200)
        self.end_headers()
        lines = (f'vllm:num_requests_running{{engine="0"}} {left}.0', 'vllm:num_requests_waiting{engine="0"} 0.0', "vllm:other 7.0")
        self.wfile.write("\n".join(lines).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Metrics)
    Metrics.asked, Metrics.running = 0, 3
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()


def drain(url: str, limit: float = 30) -> None:
    subprocess.run([sys.executable, *drain_command(url, 0, limit)[1:]], check=True, timeout=60)


def test_it_waits_until_no_reply_is_being_written(url: str) -> None:
    drain(url)
    assert Metrics.asked == 4


def test_it_does_not_wait_for_ever(url: str) -> None:
    Metrics.running = 1000
    drain(url, limit=0.2)
    assert Metrics.asked >= 1


def test_kubelet_gives_the_hook_the_time_that_it_may_take() -> None:
    target = ServingTarget(Model("models/1", "travel"), "sha256:1")
    pod = deployment(make.agent(), CompiledAgentSpec.model_construct(), target, Settings(), make.NOW)["spec"]["template"]["spec"]
    [vllm] = pod["containers"]
    hook = vllm["lifecycle"]["preStop"]["exec"]["command"]
    assert float(hook[-1]) + float(hook[-2]) < pod["terminationGracePeriodSeconds"]
